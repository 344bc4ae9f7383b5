"""update of paths and of attributes of processes while a container runs; audit and exec know of them."""

from __future__ import annotations

import json
import os
import resource
from typing import Any

import pytest
from support import config as configs
from support import proc
from support.container import Container

pytestmark = pytest.mark.ours


def running(one: Container) -> Container:
    (one.rootfs / "data").mkdir()
    (one.rootfs / "data/file").write_text("word\n")
    one.create()
    one.start()
    return one


def update(one: Container, *words: str, **options: Any) -> Any:
    return one.runtime.run("update", *words, one.id, **options)


def inside(one: Container, *command: str, **options: Any) -> Any:
    return one.runtime.run("exec", one.id, *command, **options)


def recorded(one: Container) -> dict[str, Any]:
    return json.loads((one.runtime.root / one.id / "config.json").read_text())


@pytest.mark.parametrize("mapped", [False, True], ids=["host", "userns"])
def test_paths_are_masked_and_made_read_only(container: Any, mapped: bool) -> None:
    one = container(["sleep", "100"])
    if mapped:
        configs.map_ids(one.config)
        os.chown(one.rootfs, 200000, 200000)
    running(one)
    update(one, "--mask", "/proc/uptime", "--mask", "/data", "--readonly-path", "/dev/shm")
    assert inside(one, "cat", "/proc/uptime").stdout == ""
    assert inside(one, "ls", "/data").stdout == ""
    assert "ead-only" in inside(one, "touch", "/dev/shm/x", check=None).stderr
    linux = recorded(one)["linux"]
    assert linux["maskedPaths"][-2:] == ["/proc/uptime", "/data"]
    assert linux["readonlyPaths"][-1] == "/dev/shm"
    assert one.runtime.run("audit", "--drift", one.id).code == 0
    for words, reason in (
        (("--mask", "/missing"), "ENOENT"),
        (("--mask", "data"), "absolute"),
        (("--mask", "/"), "cannot be masked"),
    ):
        failed = update(one, *words, check=None)
        assert failed.code == 1
        assert reason in failed.stderr
    assert recorded(one)["linux"] == linux


def test_a_mask_is_the_hosts_null_device(container: Any) -> None:
    """Whatever the container has put in place of its own /dev/null."""
    one = container(["sleep", "100"])
    one.process["capabilities"] = {key: ["CAP_SYS_ADMIN"] for key in ("bounding", "effective", "permitted")}
    running(one)
    inside(one, "sh", "-c", "echo false >/dev/shm/null; mount -o bind /dev/shm/null /dev/null")
    update(one, "--mask", "/data/file")
    assert os.stat(one.root / "data/file").st_rdev == os.makedev(1, 3)
    assert inside(one, "cat", "/data/file").stdout == ""


def test_attributes_of_all_processes(container: Any) -> None:
    one = running(container(sh="sleep 100 & sleep 100 & wait"))
    proc.wait_until(lambda: len(json.loads(one.runtime.run("ps", "-f", "json", one.id).stdout)) == 3, "it runs")
    pids = json.loads(one.runtime.run("ps", "-f", "json", one.id).stdout)
    words = [
        "--rlimit",
        "NOFILE=100:200",
        "--rlimit",
        "CORE=0",
        "--oom-score-adj",
        "77",
        "--io-priority",
        "best-effort:6",
    ]
    update(one, *words, "--scheduler", "SCHED_BATCH:5", "--cpu-affinity", "0")
    for pid in pids:
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (100, 200)
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert proc.read(pid, "oom_score_adj").strip() == "77"
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, pid) == 5
        assert os.sched_getaffinity(pid) == {0}
    # The next process has them, and audit finds what is recorded.
    assert inside(one, "sh", "-c", "ulimit -n; grep Cpus_allowed_list /proc/self/status").stdout.split()[::2] == [
        "100",
        "0",
    ]
    assert one.runtime.run("audit", "--drift", one.id).code == 0
    assert recorded(one)["process"]["oomScoreAdj"] == 77
    assert one.status() == "running"


def test_a_refused_change_leaves_the_old_values(container: Any) -> None:
    one = running(container(["sleep", "100"]))
    pid = one.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE), proc.read(pid, "oom_score_adj"), os.sched_getaffinity(pid)
    process = recorded(one)["process"]
    words = ["--rlimit", "NOFILE=100:200", "--oom-score-adj", "77"]
    for more, reason in (
        (["--cpu-affinity", "4000"], "EINVAL"),
        (["--scheduler", "SCHED_NONE"], "SCHED_NONE"),
        (["--io-priority", "fast"], "unknown class"),
        (["--rlimit", "NOFILE"], "not a limit"),
        (["--rlimit", "WRONG=1"], "RLIMIT_WRONG"),
    ):
        failed = update(one, *words, *more, check=None)
        assert failed.code == 1, more
        assert reason in failed.stderr
        after = (
            resource.prlimit(pid, resource.RLIMIT_NOFILE),
            proc.read(pid, "oom_score_adj"),
            os.sched_getaffinity(pid),
        )
        assert after == before, more
    assert recorded(one)["process"] == process
    assert one.status() == "running"

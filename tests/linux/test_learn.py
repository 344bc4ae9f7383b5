"""learn: what a container used is written down, it runs with that, and with nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import config as configs

pytestmark = pytest.mark.ours


def learn(runtime: Any, container: Any, *flags: str, code: int = 0) -> Path:
    """Learn what a container needs: the directory of the results."""
    container.bundle.save()
    output = runtime.folder / f"{container.id}.learnt"
    runtime.run("learn", "--bundle", container.bundle.path, "--output", output, *flags, container.id, check=code)
    return Path(output)


def load(directory: Path, name: str) -> Any:
    return json.loads((directory / name).read_text())


def rerun(runtime: Any, container: Any, directory: Path, *args: str, code: int = 0) -> Any:
    """Run the bundle with the learnt config, with other arguments if any."""
    config = load(directory, "config.json")
    if args:
        config["process"]["args"] = list(args)
    (container.bundle.path / "learnt.json").write_text(json.dumps(config))
    file = container.bundle.path / "learnt.json"
    return runtime.run("run", "--bundle", container.bundle.path, "--config", file, container.id, check=code)


def names(profile: dict[str, Any]) -> set[str]:
    return {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_bundle_runs_with_what_was_learnt_and_nothing_else(
    runtime: Any, container: Any, no_new_privileges: bool
) -> None:
    box = container(sh="echo hello; sleep 0.1; cat /etc/passwd > /dev/null")
    box.bundle.config["process"]["noNewPrivileges"] = no_new_privileges
    found = learn(runtime, box)
    assert "nanosleep" in " ".join(names(load(found, "seccomp.json")))
    assert "unshare" not in names(load(found, "seccomp.json"))
    assert rerun(runtime, box, found).stdout == "hello\n"
    refused = rerun(runtime, box, found, "/bin/sh", "-c", "mkdir /tmp/x", code=1)
    assert "Operation not permitted" in refused.stderr


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_what_the_runtime_calls_itself_is_in_the_profile(runtime: Any, container: Any, no_new_privileges: bool) -> None:
    """busybox `true` calls almost nothing; its user, groups and directory make the runtime call the most."""
    box = container(["/bin/busybox", "true"])
    box.bundle.config["process"].update(
        noNewPrivileges=no_new_privileges, user={"uid": 5, "gid": 6, "additionalGids": [7]}, cwd="/tmp"
    )
    found = learn(runtime, box)
    assert rerun(runtime, box, found).code == 0


def test_capabilities_that_were_used_stay_and_no_other(runtime: Any, container: Any) -> None:
    box = container(sh="touch /tmp/a; chown 7:7 /tmp/a")
    wanted = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]
    box.bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), wanted)
    found = learn(runtime, box)
    report = load(found, "report.json")
    if report["capabilities"]["used"] is None:
        assert any("cap_capable" in one for one in report["not_seen"])
        pytest.skip("this kernel has no tracepoint cap_capable (Linux 6.14)")
    sets = load(found, "config.json")["process"]["capabilities"]
    assert sets["bounding"] == sets["effective"] == sets["permitted"] == ["CAP_CHOWN"]
    assert rerun(runtime, box, found).code == 0


def test_a_capability_that_was_lacked_is_not_added(runtime: Any, container: Any) -> None:
    box = container(sh="touch /tmp/a; chown 7:7 /tmp/a || true")
    found = learn(runtime, box)
    assert "CAP_CHOWN" not in str(load(found, "config.json")["process"]["capabilities"])
    report = load(found, "report.json")
    assert report["capabilities"]["used"] is None or "CAP_CHOWN" in report["capabilities"]["lacked"]


def test_a_profile_is_never_wider_than_the_given_one(runtime: Any, container: Any) -> None:
    box = container(sh="mkdir /tmp/d; true")
    box.bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
    }
    found = learn(runtime, box)
    assert not names(load(found, "seccomp.json")) & {"mkdir", "mkdirat"}
    assert any("given profile denied" in one for one in load(found, "report.json")["not_seen"])
    assert "Permission denied" in rerun(runtime, box, found).stderr


def test_a_rootfs_that_is_not_written_to_becomes_readonly(runtime: Any, container: Any) -> None:
    box = container(sh="cat /etc/passwd")
    found = learn(runtime, box)
    assert load(found, "config.json")["root"]["readonly"] is True
    rerun(runtime, box, found)


def test_what_is_written_below_tmp_becomes_a_tmpfs(runtime: Any, container: Any) -> None:
    box = container(sh="mkdir -p /tmp/deep; echo x > /tmp/deep/file; rm /tmp/deep/file")
    found = learn(runtime, box)
    config = load(found, "config.json")
    assert config["root"]["readonly"] is True
    assert "/tmp" in [mount["destination"] for mount in config["mounts"]]
    rerun(runtime, box, found)
    assert "/tmp/deep/file" in load(found, "report.json")["paths"]["written"]


def test_what_may_have_to_last_is_left_to_a_person(runtime: Any, container: Any) -> None:
    box = container(sh="echo x > /srv/data")
    (box.bundle.rootfs / "srv").mkdir(exist_ok=True)
    found = learn(runtime, box)
    assert load(found, "config.json")["root"]["readonly"] is False
    assert any("/srv" in one and "volume" in one for one in load(found, "report.json")["advice"])


def test_devices_and_sysctls_are_reported(runtime: Any, container: Any) -> None:
    box = container(sh="echo > /dev/null; head -c 1 /dev/urandom; cat /proc/sys/kernel/hostname")
    report = load(learn(runtime, box), "report.json")
    assert report["devices"] == ["/dev/null", "/dev/urandom"]
    assert "/proc/sys/kernel/hostname" in report["sysctls"]["read"]


def test_it_ends_after_the_time_that_was_asked_for(runtime: Any, container: Any) -> None:
    box = container(sh="trap 'exit 5' TERM; while :; do sleep 0.1; done")
    found = learn(runtime, box, "--for", "1s", code=5)
    report = load(found, "report.json")
    assert report["run"]["timed_out"] is True
    assert report["peaks"]["pids"] >= 1
    assert report["peaks"]["memory"] > 0


def test_without_a_pid_namespace_nothing_is_started_or_left(runtime: Any, container: Any) -> None:
    box = container(sh="touch /ran")
    box.bundle.config["linux"]["namespaces"] = [
        one for one in box.bundle.config["linux"]["namespaces"] if one["type"] != "pid"
    ]
    box.bundle.save()
    output = runtime.folder / "refused"
    done = runtime.run("learn", "--bundle", box.bundle.path, "--output", output, box.id, check=1)
    assert "pid namespace of its own" in done.stderr
    assert not output.exists()
    assert not (box.bundle.rootfs / "ran").exists()


def test_two_runs_are_merged_into_what_both_need(runtime: Any, container: Any) -> None:
    script = "test -e /srv/second && exec mkdir /srv/made; exec cat /etc/passwd"
    box = container(sh=script)
    (box.bundle.rootfs / "srv").mkdir(exist_ok=True)
    first = learn(runtime, box)
    (box.bundle.rootfs / "srv/second").write_text("")
    second = runtime.folder / "second"
    runtime.run("learn", "--bundle", box.bundle.path, "--output", second, box.id, check=0)
    (box.bundle.rootfs / "srv/made").rmdir()
    merged = runtime.folder / "merged"
    runtime.run("learn", "--merge", first, second, "--output", merged, check=0)
    assert names(load(merged, "seccomp.json")) == names(load(first, "seccomp.json")) | names(
        load(second, "seccomp.json")
    )
    assert names(load(merged, "seccomp.json")) > names(load(first, "seccomp.json"))
    rerun(runtime, box, merged)
    assert (box.bundle.rootfs / "srv/made").is_dir()
    assert "Operation not permitted" in rerun(runtime, box, first, code=1).stderr


def test_runs_of_two_configs_are_not_merged(runtime: Any, container: Any) -> None:
    results = []
    for script in ("true", "false || true"):
        results.append(learn(runtime, container(sh=script)))
    output = runtime.folder / "merged"
    done = runtime.run("learn", "--merge", *results, "--output", output, check=1)
    assert "another config" in done.stderr
    assert not output.exists()


def test_validate_against_what_was_learnt(runtime: Any, container: Any) -> None:
    box = container(sh="mkdir -p /tmp/d")
    found = learn(runtime, box)
    wide = runtime.run("validate", "--against", found, "--format", "json", box.bundle.path, check=0)
    assert "/linux/seccomp" in wide.stdout and "/process/capabilities/bounding" in wide.stdout
    fitting = runtime.run("validate", "--against", found, found / "config.json", check=0)
    assert "/linux" not in fitting.stdout and "/process" not in fitting.stdout, fitting.stdout
    config = load(found, "config.json")
    for rule in config["linux"]["seccomp"]["syscalls"]:
        rule["names"] = [name for name in rule["names"] if not name.startswith("mkdir")]
    lacking = found / "lacking.json"
    lacking.write_text(json.dumps(config))
    assert "not allowed: mkdir" in runtime.run("validate", "--against", found, lacking, check=1).stdout


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_dockers_profile_has_what_runc_calls(runtime: Any, container: Any, no_new_privileges: bool) -> None:
    if not shutil.which("runc"):
        pytest.skip("runc is not installed")
    box = container(["/bin/busybox", "true"])
    box.bundle.config["process"].update(
        noNewPrivileges=no_new_privileges, user={"uid": 5, "gid": 6, "additionalGids": [7]}, cwd="/tmp"
    )
    found = learn(runtime, box)
    box.bundle.config["linux"]["seccomp"] = load(found, "docker-seccomp.json")
    box.bundle.save()
    command = ["runc", "--root", runtime.folder / "runc", "run", "--bundle", box.bundle.path, f"{box.id}-runc"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_the_page_escapes_what_the_container_chose(runtime: Any, container: Any) -> None:
    box = container(sh="echo > '/srv/<script>/a'")
    (box.bundle.rootfs / "srv/<script>").mkdir(parents=True)
    page = (learn(runtime, box) / "report.html").read_text()
    assert "/srv/&lt;script&gt;" in page and "proposed" in page
    assert "<script>" not in page


def test_in_a_user_namespace(runtime: Any, container: Any) -> None:
    box = container(sh="cat /etc/passwd >/dev/null; touch /tmp/a; chown 7:7 /tmp/a")
    configs.map_ids(box.bundle.config)
    box.bundle.chown(200000, 200000)
    wanted = ["CAP_CHOWN", "CAP_KILL"]
    box.bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), wanted)
    found = learn(runtime, box)
    report = load(found, "report.json")
    if report["capabilities"]["used"] is not None:
        assert load(found, "config.json")["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert rerun(runtime, box, found).code == 0


def test_names_of_the_container_send_nothing_to_the_terminal(runtime: Any, container: Any) -> None:
    name = "srv/a\x1b[2J"
    box = container(sh="cd /srv/*; echo > file")
    (box.bundle.rootfs / name).mkdir(parents=True)
    box.bundle.save()
    output = runtime.folder / "learnt"
    done = runtime.run("learn", "--bundle", box.bundle.path, "--output", output, box.id, check=0)
    assert load(output, "report.json")["paths"]["root_directories"] == [f"/{name}"]
    assert "/srv/a" in done.stderr and "\x1b" not in done.stderr


def test_what_is_removed_from_the_root_directory_is_a_change(runtime: Any, container: Any) -> None:
    box = container(sh="rmdir /gone")
    (box.bundle.rootfs / "gone").mkdir()
    found = learn(runtime, box)
    assert load(found, "report.json")["paths"]["root_directories"] == ["/"]
    assert load(found, "config.json")["root"]["readonly"] is False

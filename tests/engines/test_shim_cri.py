"""Kubernetes' pods: containerd's CRI plugin and our own shim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import proc

from engines.shim_cri import EXITED, RUNNING, Cri

pytest.importorskip("grpc", reason="the package grpcio is not installed")


@pytest.fixture(scope="module")
def cri(candidate, folder: Path, archive: Path) -> Iterator[Cri]:
    """A containerd with its CRI plugin, and the images."""
    engine = Cri(folder / f"shim-cri-{candidate.name}", candidate)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


def test_a_pod_with_two_containers(cri):
    """a pod of two containers: one shim, exec, logs, stats, a limit changed, exit status, restart of containerd"""
    pod = cri.run_pod("two")
    sleep = ["sh", "-c", "echo hello from $0; echo and an error >&2; exec sleep 1000"]
    first = cri.run_in_pod(pod, "first", "two", [*sleep, "first"], memory=64 << 20)
    second = cri.run_in_pod(pod, "second", "two", ["sh", "-c", "sleep 0.5; exit 7"])
    shims = {proc.parent(cri.pid(id)) for id in (pod, first)}
    assert len(shims) == 1
    assert "shim" in proc.read(shims.pop(), "cmdline")

    assert cri.exec_sync(first, "echo", "hi") == (0, "hi\n")
    assert cri.exec_sync(first, "sh", "-c", "exit 9")[0] == 9
    assert "sleep 1000" in cri.exec_sync(first, "ps")[1]
    log = Path(f"{cri.folder}/logs/two/first.log")
    proc.wait_until(lambda: len(log.read_text().splitlines()) == 2, "two lines")
    assert sorted(line.split(" ", 3)[1:] for line in log.read_text().splitlines()) == [
        ["stderr", "F", "and an error"],
        ["stdout", "F", "hello from first"],
    ]

    stats = cri.stats(first)
    assert stats["memory"]["value"]["value"] > 0
    assert stats["cpu"]["value"]["value"] > 0
    cri.ask("UpdateContainerResources", "CriUpdate", container_id=first, linux={"memory_limit_in_bytes": 32 << 20})
    own = proc.cgroups(proc.read(cri.pid(first), "cgroup"))["memory"]
    assert int(Path(f"/sys/fs/cgroup/memory{own}/memory.limit_in_bytes").read_text()) == 32 << 20

    proc.wait_until(lambda: cri.status(second)["state"] == EXITED, "the second has ended")
    assert cri.status(second)["exit_code"] == 7

    cri.kill_daemon()
    cri.start()
    assert cri.status(first)["state"] == RUNNING
    assert cri.exec_sync(first, "echo", "still here") == (0, "still here\n")

    cri.ask("StopContainer", "CriStop", container_id=first, timeout=1)
    assert cri.status(first)["state"] == EXITED
    assert cri.status(first)["exit_code"] in (137, 143)
    cri.remove_pod(pod)
    assert cri.tasks() == {}


def test_pods_beside_each_other(cri):
    """two pods: a shim each, one removed while the other lives"""
    pods = {name: cri.run_pod(name) for name in ("left", "right")}
    ids = {name: cri.run_in_pod(pod, "main", name, ["sleep", "1000"]) for name, pod in pods.items()}
    shims = {name: proc.parent(cri.pid(id)) for name, id in ids.items()}
    assert shims["left"] != shims["right"]
    cri.remove_pod(pods["left"])
    proc.wait_until(lambda: proc.process_state(shims["left"]) in ("", "Z"), "its shim has ended")
    assert cri.exec_sync(ids["right"], "echo", "hi") == (0, "hi\n")
    cri.remove_pod(pods["right"])

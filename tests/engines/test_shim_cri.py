"""Kubernetes' pods: containerd's CRI plugin and our own shim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import leaks, proc

from engines.candidate import Candidate
from engines.cri import EXITED, RUNNING, Cri
from engines.test_cri import *  # noqa: F403  # the same tests, by the other route

pytest.importorskip("grpc", reason="grpcio is not installed (make test-engines)")


@pytest.fixture(scope="module")
def cri(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Cri]:
    """A containerd with its CRI plugin and our shim, with the image in it."""
    engine = Cri(folder / f"shim-cri-{candidate.name}", candidate, shim=True)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


def test_the_handler_is_ours(cri, pod):
    """the runtime class's handler runs the container, and takes away what it made"""
    one = cri.container(pod, "one", "sleep", "1000")
    assert "shim" in proc.read(cri.shim(one), "cmdline")
    assert (state := Path("/run/containerd/pyruntime/k8s.io") / one).exists()
    cri.remove_pod(pod[0])
    assert not state.exists()
    assert not [path for path in leaks.cgroups() if path.endswith(f"/{one}")]


def test_one_shim_serves_a_pod(cri):
    """a pod's containers have one shim, other pods another"""
    pods = [cri.pod() for _ in range(2)]
    ids = [cri.container(pod, name, "sleep", "1000") for pod in pods for name in ("one", "two")]
    shims = [cri.shim(id) for id in ids]
    assert shims[0] == shims[1] == cri.shim(pods[0][0]) != shims[2] == shims[3]
    cri.remove_pod(pods[0][0])
    proc.wait_until(lambda: proc.process_state(shims[0]) in ("", "Z"), "its shim has ended")
    assert cri.exec_sync(ids[2], "echo", "hi") == (0, "hi\n")
    cri.remove_pod(pods[1][0])
    assert cri.tasks() == {}


def test_restart_of_containerd(cri, pod):
    """containerd is SIGKILLed and started again: it finds the pod, which obeys"""
    one = cri.container(pod, "one", "sleep", "1000")
    cri.kill_daemon()
    cri.start()
    assert cri.status(one)[0] == RUNNING
    assert cri.exec_sync(one, "echo", "still here") == (0, "still here\n")
    cri.stop_container(one, seconds=1)
    assert cri.status(one)[0] == EXITED

"""Fixtures of the engines' tier: the candidates, the engines, and the check for things left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import kernel, leaks

from engines import candidate as candidates
from engines import command, daemon, image, table
from engines import machine as machines
from engines.buildah import Buildah
from engines.candidate import Candidate
from engines.containerd import Containerd, ShimContainerd
from engines.cri import Cri
from engines.docker import Docker
from engines.podman import Podman

PROGRAMS = {
    "test_speed": ("containerd", "ctr", "containerd-shim-runc-v2", "runc"),
    "test_buildah": ("buildah",),
    "test_containerd": ("containerd", "ctr", "containerd-shim-runc-v2"),
    "test_cri": ("containerd", "ctr", "containerd-shim-runc-v2"),
    "test_shim_cri": ("containerd", "ctr"),
    "test_shim": ("containerd", "ctr"),
    "test_docker": ("dockerd", "docker", "iptables"),
    "test_docker_modes": ("dockerd", "docker", "iptables"),
    "test_docker_shim": ("dockerd", "docker", "iptables"),
    "test_swarm": ("dockerd", "docker", "iptables"),
    "test_podman_rootless": ("podman", "conmon", "newuidmap", "setpriv"),
    "test_podman": ("podman", "conmon", "iptables"),
}
_results = table.Results()
_left_behind: list[str] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test with each candidate, all tests of one first."""
    if "candidate" in metafunc.fixturenames:
        names = candidates.names()
        # "both" compares us with runc; the shim is ours alone.
        if "both" in metafunc.fixturenames or "shim" in metafunc.module.__name__:
            names = [name for name in names if name == "pyruntime"]
        metafunc.parametrize("candidate", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip without root or engine; what is known of a candidate is an expected failure."""
    here = str(Path(__file__).parent)
    if command.GIVEN:  # the others' engines are the machine's own, with or without it
        items[:] = [item for item in items if not str(item.path).startswith(here) or _is_given(item.path.stem)]
    absent = {module: daemon.missing(programs) for module, programs in PROGRAMS.items()}
    hindrance = machines.hindrance() if os.geteuid() == 0 else ""
    unfiltered = machines.hindrance(iptables=True) if os.geteuid() == 0 else ""
    for item in items:
        if not str(item.path).startswith(here):
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: it runs real engines"))
        elif program := absent.get(item.path.stem):
            item.add_marker(pytest.mark.skip(reason=f"{program} is not installed (tools/packages.sh engines)"))
        elif hindrance:
            item.add_marker(pytest.mark.skip(reason=hindrance))
        elif unfiltered and "iptables" in PROGRAMS.get(item.path.stem, ()):
            item.add_marker(pytest.mark.skip(reason=unfiltered))
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("candidate") if callspec else None
        for mark in item.iter_markers("differs"):
            if reason := mark.kwargs.get(name):
                # What is known is known of the machine's own engines.
                item.add_marker(pytest.mark.xfail(reason=reason, strict=not command.GIVEN))


def _is_given(module: str) -> bool:
    """Whether the engine of a module of tests is among those of ENGINES_FROM."""
    found = shutil.which(PROGRAMS.get(module, ("",))[0], path=command.PATH)
    return bool(found and found.startswith(f"{command.GIVEN}/"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Collect the outcome of each test for the table."""
    report = yield
    callspec = getattr(item, "callspec", None)
    if callspec and "candidate" in callspec.params:
        _results.add(item, callspec.params, report)
    return report


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest) -> Candidate:
    """The runtime that the engines use."""
    return candidates.find(request.param)


@pytest.fixture(scope="session")
def machine() -> Iterator[None]:
    """Give this session mounts of its own, an empty /run among them, and let orphans be its children."""
    machines.cover()
    before = leaks.mounts()
    yield
    # podman makes a mount point of the directory of named network namespaces, and leaves it at that.
    after = [mount for mount in leaks.mounts() if mount not in before and mount.target != "/run/netns"]
    _left_behind.extend(leaks.detach(after))


@pytest.fixture(scope="session")
def folder(machine: None) -> Iterator[Path]:
    """The directory of all engines of this session. Afterwards nothing may use it any more."""
    devices = leaks.device_nodes()
    path = Path(tempfile.mkdtemp(prefix=leaks.PREFIX, dir="/tmp"))
    path.chmod(0o711)
    yield path
    deadline = time.monotonic() + leaks.GRACE
    while daemon.below(path) and time.monotonic() < deadline:
        leaks.reap()
        time.sleep(0.05)
    _left_behind.extend(machines.clear(path))
    _left_behind.extend(leaks.restore_devices(devices))


@pytest.fixture(scope="session")
def subordinate_ids(folder: Path) -> Iterator[dict[str, int]]:
    """User -> first of 65536 subordinate ids (subuid(5)), by files put over the machine's own."""
    places = ("/etc/subuid", "/etc/subgid")
    ids = {"daemon": 400000, "games": 500000}
    file = folder / "subordinate"
    file.write_text("".join(f"{name}:{first}:65536\n" for name, first in ids.items()))
    for place in places:
        kernel.mount(str(file), place, None, kernel.MS_BIND)
    yield ids
    for place in places:
        kernel.umount(place)


@pytest.fixture(scope="session")
def archive(folder: Path) -> Path:
    """The image, for all engines."""
    return image.write(folder / "image.tar")


@pytest.fixture(scope="session")
def containerd(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Containerd]:
    """A containerd for a candidate, with the image in it."""
    engine = Containerd(folder / f"containerd-{candidate.name}", candidate)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def shim_containerd(candidate: Candidate, folder: Path, archive: Path) -> Iterator[ShimContainerd]:
    """A containerd that has our shim in its PATH, with the image in it."""
    engine = ShimContainerd(folder / f"shim-{candidate.name}", candidate)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def cri(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Cri]:
    """A containerd with its CRI plugin for a candidate, with the image in it."""
    pytest.importorskip("grpc", reason="grpcio is not installed (make test-engines)")
    engine = Cri(folder / f"cri-{candidate.name}", candidate)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def podman(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Podman]:
    """A podman for a candidate, with the image in it."""
    engine = Podman(folder / f"podman-{candidate.name}", candidate)
    try:
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def docker(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Docker]:
    """A dockerd for a candidate, with the image in it."""
    engine = Docker(folder / f"docker-{candidate.name}", candidate)
    try:
        engine.start()
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def buildah(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Buildah]:
    """A buildah for a candidate, with the image in it."""
    engine = Buildah(folder / f"buildah-{candidate.name}", candidate)
    try:
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results; fail the session when anything of it is still there."""
    _results.save()
    if _left_behind:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left behind, and show the table."""
    if _left_behind:
        terminalreporter.section("left behind", red=True)
        for line in _left_behind:
            terminalreporter.line(line)

"""Fixtures of the root tier: the runtime under test, bundles, containers, and the check for things left
behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support import kernel, leaks, ordinary, proc
from support.bundle import BUSYBOX, Bundle, make_base
from support.container import Container
from support.runtime import CHECKOUT, Executable, Runtime, find
from support.shim import Containerd, Task

CGROUP_PARENT = f"/{leaks.PREFIX}-tests"
UNIFIED = "/sys/fs/cgroup/unified"
_numbers = count(1)
_left_behind: list[str] = []


def _under_test() -> Executable | None:
    try:
        return find()
    except FileNotFoundError:
        return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this tier's tests."""
    mark_items(items, Path(__file__).parent)


def mark_items(items: list[pytest.Item], folder: Path) -> None:
    """Skip the tests below a folder without root or runtime; turn the marks `ours` and `differs` into a skip and
    an expected failure."""
    mine = [item for item in items if str(item.path).startswith(str(folder))]
    if not mine:
        return
    if os.geteuid() != 0:
        for item in (one for one in mine if not one.get_closest_marker("rootless")):
            item.add_marker(pytest.mark.skip(reason="needs root: it runs real containers"))
        return
    executable = _under_test()
    if executable is None or executable.kind == "ours":
        return
    for item in mine:
        if item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="about pyruntime's own files or messages"))
        for mark in item.iter_markers("differs"):
            reason = mark.kwargs.get(executable.kind)
            if reason:
                strict = executable.calibrated and not mark.kwargs.get("sometimes")
                item.add_marker(pytest.mark.xfail(reason=reason, strict=strict))


def _differs(request: pytest.FixtureRequest, executable: Executable) -> bool:
    return any(executable.kind in mark.kwargs for mark in request.node.iter_markers("differs"))


@pytest.fixture(scope="session")
def executable() -> Executable:
    """The runtime under test. Without one the tests fail: a skip would look like success."""
    return find()


@pytest.fixture(scope="session")
def machine(executable: Executable) -> None:
    """Make this process a subreaper in a mount namespace of its own.

    A subreaper, because the machine's PID 1 may reap late, and because init must become the child of one.
    """
    kernel.become_subreaper()
    kernel.enter_private_mounts()
    ordinary.admit(CHECKOUT)
    if executable.kind == "crun" and os.path.ismount(UNIFIED):
        # crun refuses cgroup v1 while a cgroup2 mount with controllers is beside it.
        kernel.umount(UNIFIED, kernel.MNT_DETACH)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory for bundles and state that root of a user namespace can pass through, as pytest's is
    not."""
    path = Path(tempfile.mkdtemp(prefix=leaks.PREFIX, dir="/tmp"))
    path.chmod(0o711)
    yield path
    leaks.remove_tree(path)


@pytest.fixture(scope="session")
def base(scratch: Path) -> Iterator[Path]:
    """The root filesystem that bundles are linked from; nothing may ever write to its files."""
    path = make_base(scratch / "base")
    yield path
    if (path / "bin/busybox").read_bytes() != Path(BUSYBOX).read_bytes():
        _left_behind.append("a container's busybox was written to")


@pytest.fixture
def runtime(executable: Executable, machine: None, scratch: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """The runtime with a `--root` of this test; afterwards all is deleted, and what is left behind is an
    error."""
    devices, mounts, children = leaks.device_nodes(), leaks.mounts(), set(proc.children())
    runtime = Runtime(executable, scratch / str(next(_numbers)))
    yield runtime
    for command in runtime.commands:
        command.stop()
    if runtime.root.exists():
        for name in sorted(os.listdir(runtime.root)):
            runtime.run("delete", "--force", name, check=None)
    left = leaks.processes(children)
    leaks.remove_cgroup_parent(CGROUP_PARENT)
    left += [f"cgroup {path}" for path in leaks.cgroups()]
    for path in leaks.cgroups():
        os.rmdir(path)
    left += leaks.detach([mount for mount in leaks.mounts() if mount not in mounts])
    left += leaks.state_records(runtime.root)
    changed = leaks.restore_devices(devices)
    if runtime.is_ours:
        left += changed
    leaks.remove_tree(runtime.folder)
    if left and not (_differs(request, executable)):
        _left_behind.extend(f"{request.node.nodeid}: {what}" for what in left)
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture
def bundle(runtime: Runtime, base: Path):
    """Make a bundle: `bundle(args=[…])` or `bundle(sh="script")`, other keywords replace top-level config
    fields."""

    def make(args: list[str] | None = None, sh: str | None = None, **fields: Any) -> Bundle:
        words = ["/bin/sh", "-c", sh] if sh is not None else args or ["/bin/true"]
        return Bundle(runtime.folder / f"bundle{next(_numbers)}", base, configs.default(words) | fields)

    return make


@pytest.fixture
def container(runtime: Runtime, bundle):
    """Make a container (not created yet) with an id and a cgroup of its own; arguments as `bundle` has
    them."""

    def make(args: list[str] | None = None, sh: str | None = None, **fields: Any) -> Container:
        name = f"{leaks.PREFIX}-{next(_numbers)}"
        made = bundle(args, sh, **fields)
        made.config["linux"].setdefault("cgroupsPath", f"{CGROUP_PARENT}/{name}")
        return Container(runtime, made, name)

    return make


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the whole session when anything of it is still there."""
    if os.geteuid() != 0:
        return
    _left_behind.extend(f"cgroup {path}" for path in leaks.cgroups())
    for folder in ("/run/pyruntime", "/run/runc", "/run/crun"):
        _left_behind.extend(f"state {path}" for path in Path(folder).glob(f"{leaks.PREFIX}*"))
    if _left_behind:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left behind."""
    if _left_behind:
        terminalreporter.section("left behind", red=True)
        for line in _left_behind:
            terminalreporter.line(line)


@pytest.fixture
def containerd(runtime: Any, tmp_path: Path) -> Iterator[Containerd]:
    """containerd's end; `runtime` looks for what is left behind."""
    made = Containerd(tmp_path, f"{leaks.PREFIX}-shim")
    yield made
    made.close()


@pytest.fixture
def task(containerd: Containerd, bundle: Any) -> Iterator[Callable[..., Task]]:
    """Make a container's shim: `task(args=[…])` as `bundle`."""
    made: list[Task] = []

    def make(args: list[str] | None = None, sh: str | None = None, **fields: Any) -> Task:
        one = bundle(args, sh, **fields)
        id = f"{leaks.PREFIX}-{len(made) + 1}"
        one.config["linux"]["cgroupsPath"] = f"{CGROUP_PARENT}/{id}"
        one.save()
        made.append(Task(containerd, one, id))
        return made[-1]

    yield make
    for one in made:
        one.end()

"""Fixtures of the security tier: those of the root tier, and what attacks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from linux.conftest import base, bundle, container, containerd, executable, machine, mark_items, runtime, scratch, task
from support import attack, kernel
from support.runtime import Runtime

__all__ = ["base", "bundle", "container", "containerd", "executable", "machine", "runtime", "scratch", "task"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this tier's tests as those of the root tier are."""
    mark_items(items, HERE)


@pytest.fixture(scope="session")
def exchange(scratch: Path) -> Path:
    """The racer's program."""
    return attack.compile_c(HERE / "exchange.c", scratch / "exchange")


@pytest.fixture
def host(runtime: Runtime) -> Path:
    """A directory of the host that no container is ever given: what an attacker wants to reach."""
    folder = runtime.folder / "host"
    folder.mkdir()
    (folder / "marker").write_text("untouched\n")
    return folder


@pytest.fixture
def weakened(runtime: Runtime) -> Iterator[Callable[..., Runtime]]:
    """`weakened(code)`: a Runtime that runs pyruntime with a step of protection replaced (support/attack.py)."""
    made: list[Runtime] = []

    def make(code: str) -> Runtime:
        folder = runtime.folder / f"weakened{len(made)}"
        folder.mkdir()
        made.append(Runtime(attack.weaken(folder, code), folder))
        return made[-1]

    yield make
    for one in made:
        for command in one.commands:
            command.stop()
        if one.root.exists():
            for path in one.root.iterdir():
                if path.name != ".cache":
                    one.run("delete", "--force", path.name, check=None)


@pytest.fixture
def null(runtime: Runtime, tmp_path: Path) -> Iterator[os.stat_result]:
    """A /dev/null of this test's own in the place of the host's: what it is before."""
    kernel.mount("tmpfs", str(tmp_path), "tmpfs", 0, "mode=755")
    node = tmp_path / "null"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    node.chmod(0o666)
    kernel.mount(str(node), "/dev/null", None, kernel.MS_BIND)
    yield os.stat("/dev/null")
    kernel.umount("/dev/null", kernel.MNT_DETACH)
    kernel.umount(str(tmp_path), kernel.MNT_DETACH)

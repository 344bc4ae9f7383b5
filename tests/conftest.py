"""What all tiers share: the path to tests/support, and the marks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("support.container", "support.proc", "support.runtime")

MARKS = (
    "ours: about our own files and messages; skipped when another runtime is under test",
    "rootless: runs as an ordinary user as well as as root",
    "differs(runc=REASON, crun=REASON, sometimes=True): a runtime known to do otherwise, and why",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of all tiers."""
    from support.order import add_option

    add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of the root tier."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    from support.order import Order
    from support.races import Retries

    config.pluginmanager.register(Order(config.getoption("order")), "pyruntime-order")
    config.pluginmanager.register(Retries(), "pyruntime-races")


@pytest.fixture(scope="session")
def working_criu() -> None:
    """Skip where criu is not installed, or cannot work with this kernel."""
    from support import proc
    from support.runtime import ENVIRONMENT

    if shutil.which("criu", path=ENVIRONMENT["PATH"]) is None:
        pytest.skip("criu is not installed")
    result = subprocess.run(["criu", "check"], env=ENVIRONMENT, capture_output=True, text=True, timeout=60 * proc.SLOW)
    if result.returncode:
        pytest.skip(f"criu does not work with this kernel: {result.stderr.strip().splitlines()[-1]}")


@pytest.fixture
def criu(working_criu: None) -> Iterator[None]:
    """criu mounts cgroup2 without options, which takes nsdelegate and the like from all mounts of it."""
    from support import proc

    def options() -> str:
        mounts = proc.parse_mountinfo(proc.read("self", "mountinfo"))
        return ",".join(sorted(proc.mount_at(mounts, "/sys/fs/cgroup").super_options))

    before = options()
    yield
    if options() != before:
        subprocess.run(["mount", "-o", f"remount,{before}", "/sys/fs/cgroup"], check=True)

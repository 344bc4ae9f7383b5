"""Guards for tests that start processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import kernel, proc
from support.handshake import FakeParent

# A machine that is busy with something else makes an example slow, not wrong.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SECONDS = 10


@pytest.fixture
def never_hang() -> Iterator[None]:
    """A handshake that waits for ever is what these tests look for: let it fail instead."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError(f"the handshake stood still for {SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """No descriptor and no child of the test is left.

    Another test may have made this process a subreaper; what a daemon leaves would then be a child here.
    """
    children, subreaper = set(proc.children()), kernel.become_subreaper(False)
    before = set(os.listdir("/proc/self/fd"))
    yield
    kernel.become_subreaper(subreaper)
    assert not set(proc.children()) - children
    left = set(os.listdir("/proc/self/fd")) - before
    # The directory that is listed is open while it is.
    shown = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in left if os.path.lexists(f"/proc/self/fd/{fd}")}
    assert not shown


@pytest.fixture
def fake_parent(tmp_path: Path) -> Iterator[FakeParent]:
    fake = FakeParent(tmp_path)
    yield fake
    if fake.pid:
        os.kill(fake.pid, signal.SIGKILL)
        fake.end()

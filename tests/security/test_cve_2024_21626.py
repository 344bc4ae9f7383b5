"""CVE-2024-21626 (runc 1.0.0-rc93 to 1.1.11): a directory of the host stayed open in init; `process.cwd`
/proc/self/fd/7 made it the container's working directory, with all of the host above."""

from __future__ import annotations

import os

import pytest
from support.attack import tree

FDS = range(3, 41)
# A descriptor of the host's root that is kept open, and no look at where the working directory is.
LEAK = """
import posix
leak = posix.open("/", posix.O_RDONLY | posix.O_DIRECTORY)
def keep(kept, first):
    return old([*kept, leak], first)
old = replace("kernel.files.close_all_but", keep)
"""
UNCHECKED = """
replace("features.process.program._refuse_outside", lambda cwd: None)
replace("features.process.program.make_cwd", lambda init, cwd: None)
"""


def script(host) -> str:
    """Look for the host's marker from the working directory upwards."""
    up = "/".join([".."] * 12)
    return f"cat {host}/marker .{host}/marker {up}{host}/marker 2>/dev/null; cat /proc/self/cwd/{up}{host}/marker; true"


def escapes(box, host, numbers=FDS) -> list[int]:
    """The descriptors with which a container or its exec gets to see the host's marker."""
    found = []
    for number in numbers:
        box.process["cwd"] = f"/proc/self/fd/{number}"
        result = box.run(check=None)
        if "untouched" in result.stdout:
            found.append(number)
    return found


def exec_escapes(box, host, numbers=FDS) -> list[int]:
    box.process["args"], words = ["/bin/sleep", "1000"], box.process["args"]
    box.create()
    box.start()
    found = []
    for number in numbers:
        result = box.runtime.run("exec", "--cwd", f"/proc/self/fd/{number}", box.id, *words, check=None)
        if "untouched" in result.stdout:
            found.append(number)
    return found


def test_cwd_of_the_container(container, host):
    assert escapes(container(sh=script(host)), host) == []


def test_cwd_of_exec(container, host):
    assert exec_escapes(container(sh=script(host)), host) == []


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_program_through_a_descriptor(container, host, verb):
    """args[0] is /proc/self/fd/N/../../host/program."""
    program = host / "program"
    program.write_text("#!/bin/sh\necho escaped\n")
    program.chmod(0o755)
    box = container(["/bin/sleep", "1000"])
    if verb == "exec":
        box.create()
        box.start()
    found = []
    for number in range(3, 20):
        for up in ("", "../" * 12):
            path = f"/proc/self/fd/{number}/{up}{str(program)[1:]}"
            if verb == "exec":
                result = box.runtime.run("exec", box.id, path, check=None)
            else:
                box.process["args"] = [path]
                result = box.run(check=None)
            if result.code == 0 or "escaped" in result.stdout:
                found.append(number)
    assert found == []


@pytest.mark.ours
def test_a_leak_is_caught(container, host, weakened):
    """That of a container: the process of an exec is cloned without the runtime's descriptors (native/spawn.c)."""
    box = container(sh=script(host))
    box.runtime = weakened(LEAK + UNCHECKED)
    assert escapes(box, host, range(3, 16))


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_leak_alone_is_no_way_out(container, host, weakened, kind):
    """The working directory is looked at, should a descriptor ever be forgotten again."""
    box = container(sh=script(host))
    box.runtime = weakened(LEAK)
    assert (escapes if kind == "container" else exec_escapes)(box, host, range(3, 16)) == []


def test_the_host_is_as_it_was(container, host):
    """A working directory that is not there is made, in the rootfs only."""
    before = tree(host)
    box = container(["/bin/true"])
    (box.rootfs / "link").symlink_to(host)
    box.process["cwd"] = "/link/new/directory"
    box.run(check=None)
    assert tree(host) == before
    assert not os.path.exists(host / "new")

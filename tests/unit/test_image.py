"""Why a program will not run: told before execve(2), which answers for three reasons with one word."""

from __future__ import annotations

import os
import platform
import struct
from pathlib import Path

import pytest

from pyruntime.errors import StepError
from pyruntime.features.process import executable, program

MACHINES = {"x86_64": 62, "aarch64": 183}
PT_LOAD, PT_INTERP = 1, 3


def elf(machine: int, interpreter: str | None = None) -> bytes:
    """A 64-bit ELF header, and one program header for the interpreter."""
    name = (interpreter or "").encode() + b"\0"
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    kind = PT_INTERP if interpreter else PT_LOAD
    return head + struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(name), len(name), 1) + name


def own() -> int:
    machine = platform.machine()
    if machine not in MACHINES:
        pytest.skip(f"the number of {machine} in ELF headers is not in this test")
    return MACHINES[machine]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "program"


def problem(file: Path, data: bytes) -> StepError | None:
    file.write_bytes(data)
    try:
        executable.check(str(file), "prog")
    except StepError as error:
        return error
    return None


@pytest.mark.parametrize("head", ["#!/bin/sh\n", "#! /bin/sh -e\n", "#!\t/bin/sh\targ\n", "#!/bin/sh", "#!\n"])
def test_scripts_that_run(file: Path, head: str) -> None:
    assert problem(file, head.encode()) is None


def test_an_empty_file(file: Path) -> None:
    error = problem(file, b"")
    assert error is not None
    assert (error.message, error.why) == ('exec: "prog": exec format error', "the file is empty")


def test_a_program_of_this_machine() -> None:
    executable.check(os.path.realpath("/bin/sh"), "sh")


def test_a_script_without_its_interpreter(file: Path) -> None:
    error = problem(file, b"#!/no/such/shell -e\n")
    assert error is not None
    assert error.message == 'exec: "prog": no such file or directory'
    assert "/no/such/shell" in (error.why or "")


def test_a_script_with_the_line_ends_of_windows(file: Path) -> None:
    error = problem(file, b"#!/bin/sh\r\necho\r\n")
    assert error is not None
    assert "CRLF" in (error.why or "") and "dos2unix" in (error.hint or "")


def test_a_text_without_a_first_line(file: Path) -> None:
    error = problem(file, b"echo hello\n")
    assert error is not None
    assert (error.errno, error.message) == ("ENOEXEC", 'exec: "prog": exec format error')


def test_another_machine(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own()
    monkeypatch.setattr(executable, "_emulated", lambda: False)
    error = problem(file, elf(22))
    assert error is not None
    assert f"the program is for s390x, this machine is {platform.machine()}" in str(error)
    monkeypatch.setattr(executable, "_emulated", lambda: True)
    assert problem(file, elf(22)) is None


def test_a_linked_program(file: Path) -> None:
    assert problem(file, elf(own(), "/bin/sh")) is None
    assert problem(file, elf(own())) is None
    error = problem(file, elf(own(), "/lib/ld-nosuch.so.1"))
    assert error is not None
    assert "linked against the interpreter /lib/ld-nosuch.so.1" in (error.why or "")


def test_a_header_that_lies(file: Path) -> None:
    """The file is the container's: sizes and places in it may be anything."""
    whole = elf(own(), "/bin/sh")
    for length in range(len(whole)):
        problem(file, whole[:length])
    for at in range(16, len(whole)):
        for value in (0, 0xFF):
            problem(file, whole[:at] + bytes([value] * min(8, len(whole) - at)) + whole[at + 8 :])


def test_what_is_no_file(tmp_path: Path) -> None:
    """A fifo would wait for a writer."""
    os.mkfifo(tmp_path / "fifo")
    executable.check(str(tmp_path / "fifo"), "prog")
    executable.check("/dev/zero", "prog")
    executable.check(str(tmp_path), "prog")
    executable.check("/no/such", "prog")


def test_looking_a_program_up(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    (first / "tool").mkdir()
    (second / "tool").write_text("#!/bin/sh\n")
    search = f"{first}:{second}"
    with pytest.raises(StepError, match="permission denied"):
        program.look_up("tool", search)
    (second / "tool").chmod(0o755)
    assert program.look_up("tool", search) == f"{second}/tool"
    assert program.look_up(f"{second}/tool", "") == f"{second}/tool"
    with pytest.raises(StepError, match="is a directory"):
        program.look_up(f"{first}/tool", "")
    for name, words in (("nosuch", "executable file not found in \\$PATH"), ("/nosuch", "stat /nosuch: no such file")):
        with pytest.raises(StepError, match=words):
            program.look_up(name, search)
    with pytest.raises(StepError, match="PATH is not set"):
        program.look_up("tool", "")


def test_the_working_directory_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for an empty entry of PATH nor for a relative one, as with runc and crun."""
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for search in ("", ":", ":/nosuch", "/nosuch:", ".", f"../{tmp_path.name}"):
        with pytest.raises(StepError, match="not found in \\$PATH"):
            program.look_up("tool", search)
    assert program.look_up("tool", f":{tmp_path}") == f"{tmp_path}/tool"

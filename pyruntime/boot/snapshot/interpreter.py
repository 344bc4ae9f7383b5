"""A new interpreter under ptrace(2), and the picture of its memory.

What makes that memory fit into any later process:

* Addresses: mappings from the bottom up (personality(2)), far from where the kernel puts the stack of a new process,
  and at a base that is random as for any program. The interpreter's own stack is moved to a random place for the same
  reason. A program that is linked to a fixed address, as Debian's Python is, stands there as ever.
* The heap of brk(2) is elsewhere in each process: the interpreter must do without (its brk fails from the start), and
  malloc takes what it gets later as a second piece.
* The vdso, too: its entry is taken out of the auxiliary vector, so that libraries make true system calls.
"""

from __future__ import annotations

import os
import resource
import secrets
import signal
import struct
from pathlib import Path
from typing import NoReturn

from pyruntime.errors import PyruntimeError
from pyruntime.kernel import tracer
from pyruntime.kernel.constants import ADDR_COMPAT_LAYOUT, PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_TRACEME

PAGE = 4096
STACK_SIZE = 8 << 20
# Between what neither programs at fixed addresses nor the kernel's choice comes near (native/launcher.c is at 1 << 37).
STACK_LOWEST, STACK_PLACES = 1 << 40, 1 << 29

# What belongs to a process and not to the program: the kernel's own mappings, and the stack that was moved.
OF_THE_PROCESS = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]", "[stack]")

# asm/mman.h, asm/unistd.h, elf.h
SYS_MMAP, SYS_BRK = 9, 12
PROT_READ_WRITE, PROT_NONE = 3, 0
MAP_PRIVATE_ANONYMOUS, MAP_FIXED_NOREPLACE = 0x22, 0x100000
AT_IGNORE, AT_RANDOM, AT_SYSINFO_EHDR = 1, 25, 33
READ, WRITE, EXECUTE = 1, 2, 4  # PROT_*


class Mapping:
    """A line of /proc/PID/maps, or a part of it: `data` is what must stand in the file, the rest is zero."""

    def __init__(self, start: int, end: int, access: int, name: str = "") -> None:
        self.start = start
        self.end = end
        self.access = access
        self.name = name
        self.data = bytearray()


def reset_interrupt() -> None:
    """Take SIGINT's default action, in a child: an interpreter handles the signal if it is not ignored when it starts,
    as it is in a background job of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interpreter:
    """A process that stops where we want it. Its methods raise OSError, or PyruntimeError when it has ended."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.random = 0  # where its auxiliary vector says that the kernel's random bytes are
        self.stack = STACK_LOWEST + secrets.randbelow(STACK_PLACES) * PAGE
        # A pipe, as for the interpreter that is observed (make.py): its streams then make the same objects.
        self.errors, errors = os.pipe()
        os.set_blocking(self.errors, False)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, environment, errors)
        os.close(errors)
        self._wait()
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    @staticmethod
    def _become(command: list[str], environment: dict[str, str], errors: int) -> NoReturn:
        try:
            tracer.personality(ADDR_COMPAT_LAYOUT)
            _, hard = resource.getrlimit(resource.RLIMIT_STACK)  # the C library makes it the size of threads' stacks
            resource.setrlimit(resource.RLIMIT_STACK, (STACK_SIZE if hard < 0 else min(STACK_SIZE, hard), hard))
            reset_interrupt()
            tracer.trace(PTRACE_TRACEME, 0)
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            os.dup2(errors, 2)
            os.closerange(3, 1024)
            os.execve(command[0], command, environment)
        except OSError as error:
            os.write(2, f"{command[0]}: {error}\n".encode())
        finally:
            os._exit(1)

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP:
            return
        if os.WIFSTOPPED(status):
            self.end()
            what = signal.Signals(os.WSTOPSIG(status)).name
        else:
            what = f"exit status {os.waitstatus_to_exitcode(status)}"
        self.pid = 0
        said = self.said()
        raise PyruntimeError(
            f"cannot make a snapshot: the interpreter ended before it was complete: {what}{said and ': '}{said}"
        )

    def said(self) -> str:
        """Return the last line that it has written to standard error since the last call."""
        try:
            lines = os.read(self.errors, 1 << 16).decode(errors="replace").splitlines()
        except BlockingIOError:
            return ""
        return lines[-1] if lines else ""

    def registers(self) -> dict[str, int]:
        return tracer.registers(self.pid)

    def set_registers(self, registers: dict[str, int]) -> None:
        tracer.set_registers(self.pid, registers)

    def resume(self) -> None:
        """Continue the process until it stops."""
        tracer.trace(PTRACE_CONT, self.pid)
        self._wait()

    def end(self) -> None:
        """Kill it, if it has not ended."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def read(self, address: int, size: int) -> bytes:
        parts = []
        while size > 0:
            parts.append(os.pread(self.memory, size, address))
            address += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def read_string(self, address: int) -> str:
        """Return the characters up to a zero byte."""
        data = b""
        while b"\0" not in data:
            data += self.read(address + len(data), PAGE - (address + len(data)) % PAGE)
        return os.fsdecode(data[: data.index(b"\0")])

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self.memory, data, address)

    def system_call(self, number: int, *arguments: int) -> int:
        """Return its result. The process makes it where it has stopped, and does not see that."""
        before = self.registers()
        place = before["rip"]
        code = self.read(place, 2)
        self.write(place, b"\x0f\x05")  # syscall
        words = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
        self.set_registers({**before, "rax": number, **dict(zip(words, arguments, strict=False))})
        tracer.trace(PTRACE_SINGLESTEP, self.pid)
        self._wait()
        result = self.registers()["rax"]
        self.write(place, code)
        self.set_registers(before)
        return result

    def map(self, address: int, size: int, protection: int) -> None:
        """Map anonymous memory at exactly this place."""
        flags = MAP_PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE
        if self.system_call(SYS_MMAP, address, size, protection, flags, (1 << 64) - 1, 0) != address:
            raise OSError(f"mmap of {size} bytes at {address:#x} in the interpreter failed")

    def mappings(self) -> list[Mapping]:
        found = []
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            places, access, _, _, _, *name = line.split(None, 5)
            start, end = (int(place, 16) for place in places.split("-"))
            bits = sum(bit for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)) if letter in access)
            found.append(Mapping(start, end, bits, name[0] if name else ""))
        return found

    def prepare(self) -> None:
        """Before its first instruction: give it another stack, and no heap of brk(2)."""
        self._move_stack()
        self.map(self.system_call(SYS_BRK, 0), PAGE, PROT_NONE)

    def _move_stack(self) -> None:
        """Arguments, environment and auxiliary vector to the top of another stack.

        System V ABI, "Process Initialization": argc, argv, NULL, environment, NULL, pairs up to AT_NULL; strings."""
        self.map(self.stack, STACK_SIZE, PROT_READ_WRITE)
        registers = self.registers()
        old = next(mapping for mapping in self.mappings() if mapping.name == "[stack]")
        data = self.read(registers["rsp"], old.end - registers["rsp"])
        distance = self.stack + STACK_SIZE - old.end
        words = list(struct.unpack_from(f"<{len(data) // 8}Q", data))
        place = 1
        for _ in ("arguments", "environment"):
            while words[place]:
                words[place] += distance
                place += 1
            place += 1
        while words[place]:
            if words[place] == AT_SYSINFO_EHDR:
                words[place] = AT_IGNORE
            elif registers["rsp"] <= words[place + 1] < old.end:
                words[place + 1] += distance
            if words[place] == AT_RANDOM:
                self.random = words[place + 1]
            place += 2
        registers["rsp"] += distance
        self.write(registers["rsp"], struct.pack(f"<{place}Q", *words[:place]) + data[8 * place :])
        self.set_registers(registers)

    def picture(self) -> list[Mapping]:
        """Return the memory of the process, in order of address; neighbours that may be accessed alike are one."""
        stack_pointer = self.registers()["rsp"]
        whole: list[Mapping] = []
        for mapping in self.mappings():
            if mapping.name in OF_THE_PROCESS or mapping.access == 0:
                continue
            if mapping.start == self.stack:  # below its pointer is nothing that will be read
                middle = stack_pointer // PAGE * PAGE - PAGE
                whole.append(Mapping(self.stack, middle, mapping.access))
                mapping.start = middle
            mapping.data = bytearray(self.read(mapping.start, mapping.end - mapping.start))
            if mapping.access & WRITE:
                used = len(mapping.data.rstrip(b"\0"))
                mapping.data = mapping.data[: -(-used // PAGE) * PAGE]
            last = whole[-1] if whole else None
            if last and (last.end, last.access, len(last.data)) == (
                mapping.start,
                mapping.access,
                last.end - last.start,
            ):
                last.end, last.data = mapping.end, last.data + mapping.data
            else:
                whole.append(mapping)
        return whole

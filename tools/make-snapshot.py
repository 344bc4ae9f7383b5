"""Writes a started interpreter as an executable file (pyruntime/snapshot.py).

    python tools/make-snapshot.py OUTPUT PYTHON ARCHIVE LIBRARY [SITE]

The arguments are those of tools/compile-launcher.sh. A new PYTHON is run, under ptrace(2), until all modules are
imported and it stops at its `snapshot_point`. Its memory then becomes the segments of an ELF file that is loaded at the
same addresses. Before that it is run once to see which objects containers use (pyruntime/placement.py).

What makes that memory the same, wherever and whenever it is loaded:

* Addresses: no randomization, and mappings from the bottom up (personality(2)), far from where the kernel puts the
  stack of a new process. The interpreter's own stack is moved to STACK for the same reason.
* The heap of brk(2) is elsewhere in each process: the interpreter must do without (its brk fails from the start), and
  malloc takes what it gets later as a second piece.
* The vdso, too: its entry is taken out of the auxiliary vector, so that libraries make true system calls.
* The processor: the C library chooses its fastest routines for it when it starts. It is told to use those that every
  processor of the architecture has, so that an image of a machine's disk works on another machine.
* Nothing is bound lazily, and no restartable sequence is registered: both are the old process's business.

The file begins with ELF headers; from byte TABLE on stands what the launcher compares: for each file
that the interpreter has read, modification time (seconds, nanoseconds), size, name; all little-endian.

Exit status 3: this machine cannot do it (another architecture, ptrace or personality refused). The runtime works
without the file; its starts take longer.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import platform
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import NoReturn

PAGE = 4096
TABLE = 2 * PAGE
TABLE_SIZE = 8 * PAGE  # at most; the launcher reads as much
MAGIC = b"pyruntime snapshot 1\0\0\0\0"
STACK, STACK_SIZE = 1 << 40, 8 << 20  # addresses that neither a program nor the kernel's choice comes near

# What belongs to a process and not to the program: the kernel's own mappings, and the stack that was moved.
OF_THE_PROCESS = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]", "[stack]")

# sys/personality.h, sys/ptrace.h, asm/mman.h, elf.h
ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT = 0x0040000, 0x0200000
PTRACE_TRACEME, PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_GETREGS, PTRACE_SETREGS = 0, 7, 9, 12, 13
SYS_MMAP, SYS_BRK = 9, 12
PROT_READ_WRITE, PROT_NONE = 3, 0
MAP_PRIVATE_ANONYMOUS, MAP_FIXED_NOREPLACE = 0x22, 0x100000
AT_IGNORE, AT_SYSINFO_EHDR = 1, 33
PT_LOAD, PT_GNU_STACK = 1, 0x6474E551
READ, WRITE, EXECUTE = 4, 2, 1

# Everything beyond the x86-64 baseline that glibc 2.36 to 2.41 look at to choose a routine.
FEATURES = (
    "AVX AVX2 AVX512BW AVX512CD AVX512DQ AVX512F AVX512VL BMI1 BMI2 ERMS FMA FMA4 FSRM LZCNT MOVBE OSXSAVE POPCNT RTM "
    "SSE4_1 SSE4_2 SSSE3 XSAVE XSAVEC"
)
ENVIRONMENT = {
    "LD_BIND_NOW": "1",
    "GLIBC_TUNABLES": "glibc.pthread.rseq=0:glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in FEATURES.split()),
}

# What is imported besides the groups of the archive: by the launcher's way to start; and then, because here it costs no
# time, what some containers ask for and what some commands need. Nothing that imports slow libraries.
LOADED = ("pyruntime", "pyruntime.archive", "pyruntime.cli", "pyruntime.cli.main", "pyruntime.snapshot")
ALSO = ("cgroups", "kernel", "plan", "process", "rootfs", "security", "start", "hooks", "netdevices", "notify_socket")
ALSO += ("rdt", "sysctl", "idmap", "reasons", "cli.list", "cli.pause", "cli.ps", "cli.resume", "cli.update")
ALSO += ("shim", "operations", "cli.shim", "cli.serve")
SLOW = ("pyruntime.cgroups.systemd_bus",)

# As native/launcher.c starts the interpreter.
BOOTSTRAP = """
import sys,posix,marshal,gc
gc.disable()
archive,modules,*sys.path[:0]=sys.argv[1:]
sys.argv[:]='pyruntime',
with open(archive,'rb') as file: code,contents=marshal.loads(file.read(65536)[4:])
module=type(sys)('pyruntime.archive')
exec(code,module.__dict__)
module.install(archive,contents)
del archive,file,code,contents,module
from pyruntime import snapshot
snapshot.take(tuple(modules.split()))
"""

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class Registers(ctypes.Structure):
    """struct user_regs_struct of sys/user.h."""

    names = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base"
    _fields_ = [(name, ctypes.c_ulong) for name in (names + " ds es fs gs").split()]


@dataclass
class Mapping:
    """A line of /proc/PID/maps, or a part of it: `data` is what must stand in the file, the rest is zero."""

    start: int
    end: int
    access: int
    name: str
    data: bytes = b""


class Interpreter:
    """A process that stops where we want it. Its methods raise OSError."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, environment)
        self._wait()
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR)

    @staticmethod
    def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
        try:
            if libc.personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT) < 0 or libc.ptrace(PTRACE_TRACEME, 0, 0, 0) < 0:
                os._exit(3)
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            os.closerange(3, 1024)
            os.execve(command[0], command, environment)
        finally:
            os._exit(1)

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP:
            return
        if os.WIFSTOPPED(status):
            self.end()
        sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)

    def _trace(self, request: int, data: int = 0) -> None:
        if libc.ptrace(request, self.pid, 0, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace request {request}")

    def registers(self) -> Registers:
        registers = Registers()
        self._trace(PTRACE_GETREGS, ctypes.addressof(registers))
        return registers

    def set_registers(self, registers: Registers) -> None:
        self._trace(PTRACE_SETREGS, ctypes.addressof(registers))

    def resume(self) -> None:
        """Let it run until it stops."""
        self._trace(PTRACE_CONT)
        self._wait()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def read(self, address: int, size: int) -> bytes:
        parts = []
        while size > 0:
            parts.append(os.pread(self.memory, size, address))
            address += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self.memory, data, address)

    def system_call(self, number: int, *arguments: int) -> int:
        """Its result. The process makes it where it has stopped, and is none the wiser."""
        before = self.registers()
        place = before.rip
        code = self.read(place, 2)
        self.write(place, b"\x0f\x05")  # syscall
        registers = Registers.from_buffer_copy(before)
        registers.rax = number
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(registers, name, value)
        self.set_registers(registers)
        self._trace(PTRACE_SINGLESTEP)
        self._wait()
        result = self.registers().rax
        self.write(place, code)
        self.set_registers(before)
        return int(result)

    def map(self, address: int, size: int, protection: int) -> None:
        """Anonymous memory at exactly this place."""
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


def move_stack(interpreter: Interpreter) -> None:
    """Before its first instruction: arguments, environment and auxiliary vector to the top of STACK.

    System V ABI, "Process Initialization": argc, argv, NULL, environment, NULL, pairs up to AT_NULL; then strings."""
    interpreter.map(STACK, STACK_SIZE, PROT_READ_WRITE)
    registers = interpreter.registers()
    old = next(mapping for mapping in interpreter.mappings() if mapping.name == "[stack]")
    data = interpreter.read(registers.rsp, old.end - registers.rsp)
    distance = STACK + STACK_SIZE - old.end
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
        elif registers.rsp <= words[place + 1] < old.end:
            words[place + 1] += distance
        place += 2
    registers.rsp += distance
    interpreter.write(registers.rsp, struct.pack(f"<{place}Q", *words[:place]) + data[8 * place :])
    interpreter.set_registers(registers)


def picture(interpreter: Interpreter) -> list[Mapping]:
    """The memory of the process, in order of address; neighbours that may be accessed alike are one."""
    stack_pointer = interpreter.registers().rsp
    whole: list[Mapping] = []
    for mapping in interpreter.mappings():
        if mapping.name in OF_THE_PROCESS or mapping.access == 0:
            continue
        if mapping.start == STACK:  # below its pointer is nothing that anybody will read
            middle = stack_pointer // PAGE * PAGE - PAGE
            whole.append(Mapping(STACK, middle, mapping.access, ""))
            mapping.start = middle
        mapping.data = interpreter.read(mapping.start, mapping.end - mapping.start)
        if mapping.access & WRITE:
            used = len(mapping.data.rstrip(b"\0"))
            mapping.data = mapping.data[: -(-used // PAGE) * PAGE]
        last = whole[-1] if whole else None
        if last and (last.end, last.access, len(last.data)) == (mapping.start, mapping.access, last.end - last.start):
            last.end, last.data = mapping.end, last.data + mapping.data
        else:
            whole.append(mapping)
    return whole


def write_file(file: Path, segments: list[Mapping], entry: int, table: bytes) -> None:
    """The executable: ELF header, program headers, TABLE, memory."""
    place = TABLE + -(-len(table) // PAGE) * PAGE
    # elf(5): type, flags, offset, virtual and physical address, size in the file and in memory, alignment
    headers = [struct.pack("<IIQQQQQQ", PT_GNU_STACK, READ | WRITE, 0, 0, 0, 0, 0, 16)]
    body = table.ljust(place - TABLE, b"\0")
    for segment in segments:
        sizes = len(segment.data), segment.end - segment.start
        headers.append(
            struct.pack("<IIQQQQQQ", PT_LOAD, segment.access, place, segment.start, segment.start, *sizes, PAGE)
        )
        body += segment.data
        place += len(segment.data)
    identity = b"\x7fELF" + bytes((2, 1, 1)).ljust(12, b"\0")
    # ET_EXEC of EM_X86_64; the program headers follow the ELF header
    head = identity + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    head += b"".join(headers)
    if len(head) > TABLE:
        sys.exit(f"{__file__}: {len(headers)} segments are too many: change TABLE here and in launcher.c")
    file.write_bytes(head.ljust(TABLE, b"\0") + body)
    file.chmod(0o755)


def comparison(files: dict[str, tuple[int, int]]) -> bytes:
    """The table of file -> size, modification time (ns), that native/launcher.c reads."""
    entries = b""
    for name, (size, time) in sorted(files.items()):
        text = os.fsencode(name) + b"\0"
        text = text.ljust(-(-len(text) // 8) * 8, b"\0")
        entries += struct.pack("<qqQQ", time // 10**9, time % 10**9, size, len(text)) + text
    table = MAGIC + struct.pack("<Q", len(files)) + entries
    if len(table) > TABLE_SIZE:
        sys.exit(f"{__file__}: {len(files)} files are too many: change TABLE_SIZE here and in launcher.c")
    return table


def stamp(path: str) -> tuple[int, int]:
    """Size and modification time (ns)."""
    info = os.stat(path)
    return info.st_size, info.st_mtime_ns


def is_fresh(output: Path, tables: Callable[[list[str]], bytes]) -> bool:
    """Whether a snapshot was made of these very files."""
    try:
        if output.stat().st_mtime_ns < Path(__file__).stat().st_mtime_ns:
            return False
        with output.open("rb") as file:
            table = file.read(TABLE + TABLE_SIZE)[TABLE:]
        count = struct.unpack_from("<Q", table, len(MAGIC))[0]
        place, names = len(MAGIC) + 8, []
        for _ in range(count):
            size = struct.unpack_from("<Q", table, place + 24)[0]
            names.append(os.fsdecode(table[place + 32 : place + 32 + size].rstrip(b"\0")))
            place += 32 + size
        return tables(names) == table[:place]
    except (OSError, struct.error):
        return False


def observe(command: list[str], environment: dict[str, str], directory: str) -> None:
    """Let the interpreter tell, in the directory's file `placement`, which objects should lie side by side
    (pyruntime/placement.py). Only root can; else no file is there, and they lie as they come."""
    if os.geteuid() != 0:
        return
    try:
        result = subprocess.run(
            command,
            env={**environment, "PYRUNTIME_PLACEMENT": "observe"},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
        )
        why = "" if result.returncode == 0 else (result.stderr.strip() or f"exit status {result.returncode}")
    except subprocess.TimeoutExpired as error:
        why = str(error)
    if why:
        print(
            f"note: the snapshot is not arranged for containers, since none can be run here: {why.splitlines()[0]}",
            file=sys.stderr,
        )


def make(
    output: Path, command: list[str], environment: dict[str, str], table: Callable[[list[str]], bytes]
) -> None:
    """Write the snapshot of an interpreter that this command starts."""
    interpreter = Interpreter(command, environment)
    try:
        move_stack(interpreter)
        interpreter.map(interpreter.system_call(SYS_BRK, 0), PAGE, PROT_NONE)
        interpreter.resume()
        segments = picture(interpreter)
        entry = interpreter.registers().rax
        files = {mapping.name for mapping in interpreter.mappings() if mapping.name.startswith("/")}
    finally:
        interpreter.end()
    fresh = output.with_name(output.name + ".new")
    write_file(fresh, segments, entry, table(sorted(files)))
    status = subprocess.run([fresh, "--version"], env={}, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode
    if status < 0:
        fresh.unlink()
        sys.exit(f"the snapshot does not work here: {signal.Signals(-status).name}")
    os.replace(fresh, output)


def main() -> None:
    output, python, archive, *path = (Path(argument) for argument in sys.argv[1:])
    if platform.machine() != "x86_64":
        print(f"no snapshot: native/snapshot.c is not written for {platform.machine()}", file=sys.stderr)
        sys.exit(3)

    data = archive.read_bytes()
    if not data.startswith(MAGIC_NUMBER):
        sys.exit(f"{archive} is not of this Python")
    _, (index, groups, _) = marshal.loads(data[len(MAGIC_NUMBER) :])
    modules = dict.fromkeys(name for names, _, _ in groups.values() for name in names)
    also = tuple(f"pyruntime.{name}." for name in ALSO)
    modules |= dict.fromkeys(name for name in index if f"{name}.".startswith(also) and name not in SLOW)
    loaded = (index[name] for name in {*modules, *LOADED} if name in index)
    sources = {file: (size, time) for file, _, _, size, time in loaded if time}

    def table(names: list[str]) -> bytes:
        return comparison({**{name: stamp(name) for name in (*names, str(archive))}, **sources})

    if is_fresh(output, table):
        return
    command = [str(python), "-I", "-S", "-X", "utf8", "-c", BOOTSTRAP, str(archive), " ".join(modules)]
    command += map(str, path)
    with tempfile.TemporaryDirectory(prefix="pyruntime-snapshot-") as directory:
        placement = Path(directory, "placement")
        environment = {**ENVIRONMENT, "LD_PRELOAD": f"{path[0]}/pyruntime/kernel/_snapshot.abi3.so"}
        observe(command, environment, directory)
        make(output, command, {**environment, "PYRUNTIME_PLACEMENT": str(placement)}, table)


if __name__ == "__main__":
    main()

"""Watch the processes of a container: the BPF programs attached, and what their maps hold at the end."""

from __future__ import annotations

import os
import posix

from pyruntime.errors import KernelError, StepError
from pyruntime.features.process.capabilities import NAMES
from pyruntime.kernel import libseccomp, tracepoints
from pyruntime.kernel.constants import ENOENT
from pyruntime.learn import bpf_programs

_MOST_CALLS, _MOST_PATHS, _MOST_CAPABILITIES = 4096, 32768, 256


class Seen:
    """What was seen.

    calls, compat_calls: names of system calls, native and of the 32-bit architecture.
    nameless:     numbers of calls that this libseccomp has no name for.
    used, lacked: capabilities that the kernel asked for, and that the process had, or did not have.
    paths:        (call, path, whether it writes) of calls that succeeded.
    notes:        what could not be seen, as sentences."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.compat_calls: list[str] = []
        self.nameless: list[int] = []
        self.used: list[str] | None = None
        self.lacked: list[str] = []
        self.paths: list[tuple[str, str, bool]] = []
        self.notes: list[str] = []


class Watch:
    """The programs on their tracepoints, from the construction on. Raises StepError."""

    def __init__(self, pid: int) -> None:
        namespace = os.stat(f"/proc/{pid}/ns/pid")
        if namespace.st_ino == os.stat("/proc/self/ns/pid").st_ino:
            raise StepError(
                "learn needs a container with a pid namespace of its own",
                pointer="/linux/namespaces",
                why="its processes are identified by that namespace",
                hint='add {"type": "pid"} to /linux/namespaces',
            )
        where = (os.major(namespace.st_dev) << 20 | os.minor(namespace.st_dev), namespace.st_ino)
        machine = posix.uname().machine
        if machine not in bpf_programs.REGISTERS:
            raise StepError(f"learn does not know the registers of {machine}", hint="learn on x86-64 or arm64")
        self.links: list[int] = []
        self.seen = Seen()
        self.native = libseccomp.native_architecture()
        try:
            self.calls = tracepoints.Map(4, 8, _MOST_CALLS)
            self.paths = tracepoints.Map(bpf_programs.KEY_SIZE, 8, _MOST_PATHS)
            self.capabilities = tracepoints.Map(4, 8, _MOST_CAPABILITIES)
            self.losses = tracepoints.Map(4, 8, 16)
            maps = bpf_programs.Maps(self.calls.fd, self.paths.fd, self.capabilities.fd, self.losses.fd)
            numbers = [
                (number, *arguments)
                for name, arguments in bpf_programs.PATH_CALLS.items()
                if (number := libseccomp.system_call(self.native, name)) >= 0
            ]
            self._attach("sys_enter", bpf_programs.calls_program(where, maps, machine))
            self._attach("sys_exit", bpf_programs.paths_program(where, maps, machine, numbers))
            try:
                self._attach("cap_capable", bpf_programs.capabilities_program(where, maps))
                self.sees_capabilities = True
            except KernelError as error:
                if error.errno != ENOENT:
                    raise
                self.sees_capabilities = False
        except KernelError as error:
            self.stop()
            raise StepError(
                f"cannot watch system calls: {error}",
                why="it takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, in the initial user namespace, and a kernel "
                "with CONFIG_BPF_EVENTS and CONFIG_FTRACE_SYSCALLS",
                hint="run learn as root",
                syscall=error.call(),
            ) from None

    def _attach(self, tracepoint: str, code: bytes) -> None:
        fd = tracepoints.load_program(code, f"learn_{tracepoint}"[:15])
        try:
            self.links.append(tracepoints.attach(fd, tracepoint))
        finally:
            posix.close(fd)

    def stop(self) -> None:
        """Detach the programs; the maps stay."""
        while self.links:
            posix.close(self.links.pop())

    def read(self) -> Seen:
        """Stop, and read the maps."""
        self.stop()
        seen = self.seen
        compat = libseccomp.architecture("x86" if posix.uname().machine == "x86_64" else "arm")
        for key, _ in self.calls.items():
            number = tracepoints.word(key)
            foreign = bool(number & bpf_programs.COMPAT)
            if number == 0xFFFFFFFF:  # -1: a call that a tracer skipped
                continue
            number &= bpf_programs.COMPAT - 1
            name = libseccomp.system_call_name(compat if foreign else self.native, number)
            if not name:
                seen.nameless.append(number)
            else:
                (seen.compat_calls if foreign else seen.calls).append(name)
        seen.calls.sort()
        seen.compat_calls.sort()
        self._read_capabilities(seen)
        self._read_paths(seen)
        self._read_losses(seen)
        for map in (self.calls, self.paths, self.capabilities, self.losses):
            map.close()
        return seen

    def _read_capabilities(self, seen: Seen) -> None:
        if not self.sees_capabilities:
            seen.notes.append("capabilities: this kernel has no tracepoint cap_capable; the sets stay as they are")
            return
        numbers = [tracepoints.word(key) for key, _ in self.capabilities.items()]
        names = {number: f"CAP_{name}" for number, name in enumerate(NAMES)}
        seen.used = sorted(names[number] for number in numbers if number in names)
        seen.lacked = sorted(names[number & 0xFF] for number in numbers if number & 0x100 and number & 0xFF in names)

    def _read_paths(self, seen: Seen) -> None:
        found = set()
        for key, _ in self.paths.items():
            name = libseccomp.system_call_name(self.native, tracepoints.word(key[:4]))
            path = key[8:].rstrip(b"\0").decode("utf-8", "surrogateescape")
            found.add((name, path, tracepoints.word(key[4:8]) != 0))
        seen.paths = sorted(found)

    def _read_losses(self, seen: Seen) -> None:
        lost = {tracepoints.word(key) for key, _ in self.losses.items()}
        for loss, text in (
            (bpf_programs.LOST_CALL, f"system calls: more than {_MOST_CALLS} different numbers; some are missing"),
            (bpf_programs.LOST_PATH, f"paths: more than {_MOST_PATHS} different ones; some are missing"),
            (bpf_programs.UNREAD_PATH, "paths: the name in some calls could not be read"),
            (bpf_programs.LOST_CAPABILITY, "capabilities: some are missing"),
        ):
            if loss in lost:
                seen.notes.append(text)
        for number in seen.nameless:
            seen.notes.append(f"system calls: number {number} has no name in this libseccomp; it is not in the profile")

"""libseccomp, through a shim of its own. Importing this loads the library: only to compile a filter."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel._seccomp import ffi, lib
from pyruntime.kernel.constants import EEXIST, EINVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIMIZE_TREE = 2  # seccomp_attr_set(3), SCMP_FLTATR_CTL_OPTIMIZE: a binary tree of the system calls


def library() -> str:
    """Return the path of the libseccomp in use."""
    return bytes(ffi.string(lib.filter_library())).decode("utf-8", "surrogateescape")


def architecture(name: str) -> int:
    """Return the library's token for an architecture by its lower-case name ("x86_64"), 0 when it knows none."""
    return lib.filter_architecture(name.encode())


def native_architecture() -> int:
    """Return the token of the architecture this runs on; tokens are the kernel's AUDIT_ARCH_* except that of x32."""
    return lib.filter_native_architecture()


def system_call(token: int, name: str) -> int:
    """Return the number of a system call on an architecture; negative when it has none there."""
    return lib.filter_system_call(token, name.encode())


def system_call_name(token: int, number: int) -> str:
    """Return the name of a system call on an architecture, "" for a number without one."""
    name = ffi.new("char[]", 64)
    found = lib.filter_system_call_name(token, number, name, 64) > 0
    return bytes(ffi.string(name)).decode() if found else ""


class Filter:
    """A filter being built. Raises KernelError when the library refuses something."""

    def __init__(self, default_action: int) -> None:
        self._filter = lib.filter_new(default_action)
        if self._filter == ffi.NULL:
            raise KernelError(EINVAL, "seccomp_init", (hex(default_action),))

    def add_architecture(self, token: int) -> None:
        """Filter this architecture's system calls too; the native one is always filtered."""
        result = lib.filter_add_architecture(self._filter, token)
        if result < 0 and result != -EEXIST:
            raise KernelError(-result, "seccomp_arch_add", (hex(token),))

    def add_rule(self, action: int, name: str, number: int, args: Sequence[tuple[int, int, int, int]]) -> None:
        """Do `action` on a system call when all comparisons (index, operator, value, second value) hold."""
        columns = list(zip(*args, strict=True)) or [(), (), (), ()]
        indexes, operators, values, others = columns
        result = lib.filter_add_rule(
            self._filter,
            action,
            number,
            len(args),
            ffi.new("unsigned int[]", indexes),
            ffi.new("int[]", operators),
            ffi.new("unsigned long long[]", values),
            ffi.new("unsigned long long[]", others),
        )
        if result < 0:
            raise KernelError(-result, "seccomp_rule_add", (name, hex(action)))

    def optimize(self) -> None:
        """Arrange the system calls as a binary tree instead of a list (libseccomp 2.5)."""
        result = lib.filter_optimize(self._filter, _OPTIMIZE_TREE)
        if result < 0:
            raise KernelError(-result, "seccomp_attr_set", ("SCMP_FLTATR_CTL_OPTIMIZE",))

    def export(self) -> bytes:
        """Return the compiled program: struct sock_filter after struct sock_filter."""
        # seccomp_export_bpf_mem(3) exists from 2.6 on only, so the library writes to a file in memory.
        fd = posix.memfd_create("seccomp", posix.MFD_CLOEXEC)
        try:
            result = lib.filter_export(self._filter, fd)
            if result < 0:
                raise KernelError(-result, "seccomp_export_bpf")
            return posix.pread(fd, posix.fstat(fd).st_size, 0)
        finally:
            posix.close(fd)

    def close(self) -> None:
        """Free the library's memory."""
        lib.filter_free(self._filter)

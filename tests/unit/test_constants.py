"""Every number of the kernel's interface has the value that the kernel's headers give it, on x86-64 and on arm64."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyruntime.kernel import constants as kernel_constants

PACKAGE = Path(__file__).resolve().parents[2] / "pyruntime"

# Where Debian has the kernel's headers of each architecture: all of these directories, of the first line that is there.
ARM64 = (
    (Path("/usr/lib/linux/uapi/arm64"), Path("/usr/include")),
    (Path("/usr/aarch64-linux-gnu/include"),),
)
X86 = (
    (Path("/usr/lib/linux/uapi/x86"), Path("/usr/include")),
    (Path("/usr/include/x86_64-linux-gnu"), Path("/usr/include")),
)
HEADERS = """
asm/errno.h asm/fcntl.h asm/ioctls.h asm/signal.h linux/audit.h linux/bpf.h linux/capability.h linux/close_range.h
linux/elf.h linux/fcntl.h linux/fs.h linux/if_addr.h linux/ioprio.h linux/landlock.h linux/magic.h linux/memfd.h
linux/mempolicy.h linux/mount.h linux/netlink.h linux/nsfs.h linux/openat2.h linux/personality.h linux/prctl.h
linux/ptrace.h linux/resource.h linux/rtnetlink.h linux/sched.h linux/seccomp.h linux/sockios.h linux/stat.h
""".split()

# The names of the kernel, with or without an underscore in front.
OF_THE_KERNEL = re.compile(
    r"_?((O|AT|RESOLVE|CLONE|MS|OPEN_TREE|MOVE_MOUNT|FSOPEN|FSMOUNT|FSCONFIG|MOUNT_ATTR|PR|CLOSE_RANGE|LANDLOCK|IFF|MFD|NLM_F|IFA_F"
    r"|NLM|RTM|IFA|RT_SCOPE|AF|IOPRIO_WHO|IOPRIO_CLASS|SECCOMP_RET|SECCOMP_SET_MODE|AUDIT_ARCH|CAP|PTRACE|RLIMIT|NS_GET|MPOL"
    r"|SECCOMP_FILTER_FLAG)_\w+"
    r"|(TIOC|SIOC|S_IF)[A-Z0-9]+|\w+_MAGIC|SIG[A-Z0-9]+|PT_INTERP|" + "|".join(errno.errorcode.values()) + ")"
)
# In the C library's headers (linux/if.h, linux/socket.h, sys/mount.h), the kernel's own, or newer ones only.
NOT_IN_HEADERS = {"IFF_UP", "AF_UNSPEC", "AF_INET", "AF_INET6", "PF_EXITING", "MFD_EXEC"} | {
    "MNT_DETACH",
    "UMOUNT_NOFOLLOW",
    # Landlock since Linux 6.2; Debian 12 has the headers of 6.1
    "LANDLOCK_ACCESS_FS_TRUNCATE",
    "LANDLOCK_ACCESS_FS_IOCTL_DEV",
    "LANDLOCK_ACCESS_NET_BIND_TCP",
    "LANDLOCK_ACCESS_NET_CONNECT_TCP",
    "LANDLOCK_RULE_NET_PORT",
    "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET",
    "LANDLOCK_SCOPE_SIGNAL",
}
X86_ONLY = {"PTRACE_GETREGS", "PTRACE_SETREGS"}
# Names of the kernel that are numbers of one place: the instruction sets of BPF, and what exists on one architecture.
ELSEWHERE = {"boot/snapshot/interpreter.py", "features/security/seccomp_profile.py"}


def constants() -> Iterator[tuple[str, int]]:
    """(name, value) of each number of kernel/constants.py."""
    for name, value in vars(kernel_constants).items():
        if isinstance(value, int):
            yield name, value


def literals(path: Path) -> Iterator[str]:
    """Each number of the kernel's interface that a module writes out: types of files, flags, errno."""
    text = path.read_text()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            word = (ast.get_source_segment(text, node) or "").lower()
            if word.startswith("0o") and node.value > 0o7777:
                yield f"{path}:{node.lineno}: {word}"
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "errno":
            for number in ast.walk(node):
                if isinstance(number, ast.Constant) and type(number.value) is int and number.value:
                    yield f"{path}:{node.lineno}: errno {number.value}"
    for node in tree.body:
        for target, value in _assigned(node):
            if OF_THE_KERNEL.fullmatch(target) and isinstance(value, ast.Constant) and type(value.value) is int:
                yield f"{path}:{node.lineno}: {target} = {value.value}"


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Each (name, value) of an assignment, also of several names at once."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name):
            yield target.id, value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            yield from (
                (name.id, one) for name, one in zip(target.elts, value.elts, strict=False) if isinstance(name, ast.Name)
            )


def test_numbers_of_the_kernel_are_written_in_one_module() -> None:
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "kernel/constants.py"]
    found = [one for path in modules if str(path.relative_to(PACKAGE)) not in ELSEWHERE for one in literals(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    ["if s.st_mode & 0o170000 == x: pass", "_ENOENT, _EIO = 2, 5", "_O_PATH = 2097152", "a = error.errno in (2, EIO)"],
)
def test_a_number_of_the_kernel_elsewhere_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text + "\n")
    assert list(literals(tmp_path / "module.py"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernels_headers(architecture: str, tmp_path: Path) -> None:
    places = X86 if architecture == "x86_64" else ARM64
    folders = next((folders for folders in places if (folders[0] / "asm").is_dir()), None)
    if folders is None:
        pytest.skip(f"the kernel's headers for {architecture} are not installed (package linux-libc-dev-arm64-cross)")
    program = tmp_path / "constants.c"
    missing = NOT_IN_HEADERS | (X86_ONLY if architecture == "aarch64" else set())
    found = [(name, value) for name, value in constants() if name not in missing]
    assert len(found) > 150
    lines = [f"#include <{header}>" for header in HEADERS if any((folder / header).exists() for folder in folders)]
    for name, value in found:
        lines.append(f'#line 1 "{name}"')
        lines.append(f'_Static_assert((unsigned int)({name}) == {value & 0xFFFFFFFF}U, "is another number");')
    program.write_text("\n".join(lines) + "\n")
    others = "-U__aarch64__ -D__x86_64__" if architecture == "x86_64" else "-U__x86_64__ -U__i386__ -D__aarch64__"
    where = subprocess.run(["cc", "-print-file-name=include"], capture_output=True, text=True, check=True).stdout
    command = ["cc", "-fsyntax-only", "-w", "-nostdinc", *others.split(), "-isystem", where.strip()]
    for folder in folders:
        command += ["-isystem", str(folder)]
    result = subprocess.run([*command, str(program)], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert result.returncode == 0, result.stderr

"""Every number of the kernel's interface has the value that the kernel's headers give it, on x86-64 and on arm64."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
asm/errno.h asm/fcntl.h asm/ioctls.h asm/signal.h linux/bpf.h linux/close_range.h linux/elf.h linux/fcntl.h linux/fs.h
linux/if_addr.h linux/ioprio.h linux/magic.h linux/memfd.h linux/mempolicy.h linux/mount.h linux/netlink.h
linux/openat2.h linux/personality.h linux/prctl.h linux/rtnetlink.h linux/sched.h linux/seccomp.h linux/sockios.h
linux/stat.h
""".split()

# The names of the kernel, with or without an underscore in front.
OF_THE_KERNEL = re.compile(
    r"_?((O|AT|RESOLVE|CLONE|MS|OPEN_TREE|MOVE_MOUNT|FSOPEN|FSMOUNT|FSCONFIG|MOUNT_ATTR|PR|CLOSE_RANGE|IFF|MFD|NLM_F|IFA_F"
    r"|RT_SCOPE|IOPRIO_WHO|IOPRIO_CLASS|SECCOMP|MPOL)_\w+"
    r"|(TIOC|SIOC|S_IF)[A-Z0-9]+|\w+_MAGIC|SIG[A-Z0-9]+|E[A-Z0-9]+|PT_INTERP)"
)
NOT_IN_HEADERS = {"IFF_UP"}  # linux/if.h needs the C library's headers; the same number everywhere


def constants() -> Iterator[tuple[str, int, str]]:
    """(name, value, file) of each number that is assigned to a name of the kernel at the top level of a module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            name = OF_THE_KERNEL.fullmatch(node.targets[0].id)
            if name and isinstance(value := _number(node.value), int):
                yield name[1], value, str(path.relative_to(PACKAGE))


def _number(node: ast.expr) -> object:
    try:
        return eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}})
    except (NameError, TypeError, AttributeError):
        return None


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernels_headers(architecture: str, tmp_path: Path) -> None:
    places = X86 if architecture == "x86_64" else ARM64
    folders = next((folders for folders in places if (folders[0] / "asm").is_dir()), None)
    if folders is None:
        pytest.skip(f"the kernel's headers for {architecture} are not installed (package linux-libc-dev-arm64-cross)")
    program = tmp_path / "constants.c"
    found = {(name, value): file for name, value, file in constants() if name not in NOT_IN_HEADERS}
    assert len(found) > 80
    lines = [f"#include <{header}>" for header in HEADERS if any((folder / header).exists() for folder in folders)]
    for (name, value), file in found.items():
        lines.append(f'#line 1 "pyruntime/{file}: {name}"')
        lines.append(f'_Static_assert((unsigned int)({name}) == {value & 0xFFFFFFFF}U, "is another number");')
    program.write_text("\n".join(lines) + "\n")
    others = "-U__aarch64__ -D__x86_64__" if architecture == "x86_64" else "-U__x86_64__ -U__i386__ -D__aarch64__"
    where = subprocess.run(["cc", "-print-file-name=include"], capture_output=True, text=True, check=True).stdout
    command = ["cc", "-fsyntax-only", "-w", "-nostdinc", *others.split(), "-isystem", where.strip()]
    for folder in folders:
        command += ["-isystem", str(folder)]
    result = subprocess.run([*command, str(program)], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert result.returncode == 0, result.stderr

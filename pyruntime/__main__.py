"""`python -m pyruntime`, and the command `pyruntime` of a pip installation: the commands in a sealed interpreter.

The interpreter that runs this has the caller's environment and is a file that root of a container may write to through
/proc/PID/exe (CVE-2019-5736). So it is executed again, as native/launcher.c does: from a sealed copy in memory, without
the variables that make a loader or an interpreter run code of the caller's choice.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import NoReturn

from pyruntime.kernel.constants import MFD_EXEC

# As in native/launcher.c.
_UNSAFE = ("LD_", "PYTHON", "GLIBC_", "MALLOC_", "GCONV_PATH", "GETCONF_DIR", "LOCPATH", "NLSPATH")
_BOOTSTRAP = """
import sys
sys.argv[0] = "pyruntime"
sys.path += {path!r}
from pyruntime.cli.main import main
sys.exit(main())
"""


def _path() -> list[str]:
    """Return the directories that hold this package and its dependencies."""
    from importlib.util import find_spec

    files = [spec.origin for name in ("pyruntime", "cffi", "jsonschema") if (spec := find_spec(name)) and spec.origin]
    folders = [os.path.dirname(os.path.dirname(os.path.abspath(file))) for file in files]
    # Where `make install` keeps its copies; missing elsewhere.
    folders.append(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "dependencies"))
    return list(dict.fromkeys(folders))


def _sealed(path: str) -> int:
    """Return a descriptor of a copy of the file in memory, which nothing can change any more."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:  # MFD_EXEC, Linux 6.3: without it vm.memfd_noexec makes the copy not executable
        copy = os.memfd_create("pyruntime", flags | MFD_EXEC)
    except OSError:
        copy = os.memfd_create("pyruntime", flags)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    while os.sendfile(copy, source, None, 1 << 30):
        pass
    os.close(source)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy


def main() -> NoReturn:
    """Become the command."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_UNSAFE)}
    words = [python, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP.format(path=_path()), *sys.argv[1:]]
    try:
        os.execve(_sealed(python), words, environment)
    except OSError as error:
        sys.stderr.write(f"pyruntime: cannot start {python}: {error.strerror}\n")
        sys.exit(126)


if __name__ == "__main__":
    main()

"""A snapshot of the started interpreter: what every command needs, imported once when pyruntime is built.

Starting Python and importing our modules is most of what a short command costs. `tools/make-snapshot.py` runs `take`
in a new interpreter, stops it at `snapshot_point`, and writes its memory as an executable file. The launcher
executes that file instead of the interpreter as long as nothing it was made of has changed; `take` then returns from
`snapshot_point` once more, in a new process. docs/architecture.md, "The snapshot", says what is the same in all these
processes, and what is not.
"""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def take(modules: tuple[str, ...]) -> NoReturn:
    """Import `modules`, wait to be copied; in each copy run the command of its command line. The original ends."""
    from pyruntime.kernel._snapshot import ffi, lib

    for name in modules:
        __import__(name)
    from pyruntime.cli.main import main

    gc.collect()
    gc.freeze()
    stack = lib.snapshot_point()
    if stack == ffi.NULL:
        sys.exit("no snapshot: native/snapshot.c is not written for this architecture")

    words = ffi.cast("char **", stack + 1)
    count = stack[0]
    sys.argv[1:] = [ffi.string(words[i]).decode("utf-8", "surrogateescape") for i in range(1, count)]
    environment = posix.environ
    environment.clear()
    i = count + 1
    while words[i]:
        variable, equals, value = ffi.string(words[i]).partition(b"=")
        if equals:
            environment.setdefault(variable, value)
        i += 1
    # It was no terminal when the snapshot was taken.
    if sys.stdout.isatty():
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())

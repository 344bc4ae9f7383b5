"""A snapshot of the started interpreter: what every command needs, imported once when pyruntime is built.

Starting Python and importing our modules is most of what a short command costs. `make` runs `take` in a new
interpreter, stops it at `snapshot_point`, and writes its memory to a file. The launcher loads that file instead of the
interpreter as long as nothing it was made of has changed; `take` then returns from `snapshot_point` once more, in a new
process. docs/architecture.md, "The snapshot", says what is the same in all these processes, and what is not.
"""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    class Program(Protocol):
        """The functions of the command line."""

        def main(self) -> int:
            """Run the command of sys.argv: its exit status."""

        def run(self, arguments: list[str], /) -> int:
            """Run a command line: its exit status."""


# The file that turns it off, as native/loader.h has it by tools/compile-launcher.sh.
TURNED_OFF = "/etc/pyruntime/no-snapshot"
# Whether this process has come out of a snapshot.
started_from = False


def take(modules: tuple[str, ...], program: Program) -> NoReturn:
    """Import `modules` and wait to be copied. Each copy runs the command of sys.argv; the original ends.

    If the objects are to be observed (page_order.py), do that instead.

    program: the module of the command line (cli/main.py), which is above this one."""
    from pyruntime.kernel import snapshot

    for name in modules:
        __import__(name)
    if "pyruntime.features.registry" in sys.modules:
        _warm_up()
    gc.collect()
    gc.freeze()
    observed = snapshot.observed()
    if observed >= 0:
        from pyruntime.boot.snapshot import page_order

        page_order.observe(observed, program.run)
        posix._exit(0)
    if snapshot.missed():
        posix.write(2, b"objects were not made in the order in which they were observed\n")
    snapshot.end_placement()
    begun = snapshot.point("\n".join(_files()))
    if begun is None:
        sys.exit("no snapshot: native/snapshot.c is not written for this architecture")
    global started_from
    started_from = True
    arguments, environment = begun
    sys.argv[1:] = arguments[1:]
    sys.orig_argv[:] = arguments
    posix.environ.clear()
    posix.environ.update(environment)
    # It was no terminal when the snapshot was taken.
    if sys.stdout.isatty():
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(program.main())


def _files() -> set[str]:
    """Return the files that the interpreter's modules were read from."""
    found = set()
    for module in list(sys.modules.values()):
        for name in ("__file__", "__cached__"):
            file = getattr(module, name, None)
            if file:
                found.add(file)
    return found


def _warm_up() -> None:
    """Plan a container some times: since Python 3.11 instructions that have run often are replaced by faster ones
    (PEP 659), and the snapshot keeps those: 5 to 9 % of the CPU time of `run`."""
    from pyruntime.cgroupfs import layout
    from pyruntime.features import registry
    from pyruntime.plan.request import Request
    from pyruntime.spec import check, load, sample
    from pyruntime.util import fastjson
    from pyruntime.util.ids import ContainerId

    config = sample.sample(rootless=False)
    config["annotations"] = {"org.example.name": "value"}
    config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    config["process"]["oomScoreAdj"] = 0
    config["linux"]["resources"] |= {
        "memory": {"limit": 1 << 30, "swap": 1 << 30},
        "cpu": {"shares": 1024, "quota": 100_000, "period": 100_000},
        "pids": {"limit": 1000},
    }
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "write", "close"], "action": "SCMP_ACT_ALLOW"}] * 4,
    }
    text = fastjson.dumps(config).encode()
    host = layout.find()
    for _ in range(32):
        config = load.parse_object(text, "config.json")
        check.require(config)
        registry.build(Request(config, id=ContainerId("warm"), bundle="/", layout=host))

"""pyruntime: an OCI container runtime, and a library of it.

    import pyruntime

    with pyruntime.Container("box", pyruntime.Bundle("/bundle")) as box:
        box.create()
        box.start()
        print(box.run(["uname", "-r"]).stdout)
        box.kill("TERM")
        box.wait()

The names below are loaded when they are asked for: the commands import this package, too, and use none of them.
docs/library.md has the whole.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
    from pyruntime.errors import (
        Busy,
        ConfigError,
        HookError,
        NotFound,
        PyruntimeError,
        StateError,
        StepError,
        UsageError,
    )
    from pyruntime.library.bundle import Bundle
    from pyruntime.library.container import Container
    from pyruntime.library.process import Process
    from pyruntime.library.state import State

__all__ = [
    "Bundle",
    "Busy",
    "ConfigError",
    "Container",
    "HookError",
    "NotFound",
    "Process",
    "PyruntimeError",
    "State",
    "StateError",
    "StepError",
    "UsageError",
]

_LIBRARY = {"Bundle": "bundle", "Container": "container", "Process": "process", "State": "state"}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from pyruntime.version import VERSION

        return VERSION
    if name not in __all__:
        raise AttributeError(f"module 'pyruntime' has no attribute {name!r}")
    place = f"pyruntime.library.{_LIBRARY[name]}" if name in _LIBRARY else "pyruntime.errors"
    value: object = getattr(__import__(place, None, None, (name,)), name)
    globals()[name] = value
    return value

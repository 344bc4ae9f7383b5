"""shim: the containerd shim's own command line (containerd, "Runtime v2", Commands). No person calls it.

containerd-shim-pyruntime-v1 -namespace NS -address SOCKET -id ID [-bundle DIR] start|delete
containerd-shim-pyruntime-v1 -v | -info
"""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import UsageError
from pyruntime.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values

USAGE = "start|delete"
FLAGS = (
    Flag("namespace", "containerd's namespace of the container", value="NAME"),
    Flag("address", "containerd's socket", value="SOCKET"),
    Flag("publish-binary", "containerd's program", value="PATH"),
    Flag("id", "the container's id", value="ID"),
    Flag("bundle", "the container's bundle", value="DIR"),
    Flag("socket", "accepted for compatibility, ignored", value="PATH"),
    Flag("debug", "accepted for compatibility, ignored: there is one log level"),
    Flag("v", "show the version"),
    Flag("info", "write what the shim is and can"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Do what containerd asks."""
    if values["v"]:
        write_output(f"containerd-shim-pyruntime-v1:\n  Version: {VERSION}\n")
        return 0
    if values["info"]:
        from pyruntime.shim import info

        return info.write()
    if words == ["start"]:
        from pyruntime.shim import start

        return start.start(values["id"], values["namespace"], values["address"])
    if words == ["delete"]:
        from pyruntime.shim import delete

        return delete.delete(values["id"], values["namespace"], values["bundle"] or ".")
    raise UsageError("the shim takes one command, start or delete", hint="it is containerd that calls it")

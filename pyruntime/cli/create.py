"""create: make a container; its init waits for start when the command returns."""

from __future__ import annotations

from pyruntime.cli.flags import TRACE, Flag, number
from pyruntime.cli.main import one_id
from pyruntime.commands import create
from pyruntime.commands.create import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = (
    Flag("bundle", "directory that holds config.json (default: the working directory)", short="b", value="DIR"),
    Flag(
        "config", "read the config from FILE instead of BUNDLE/config.json, like crun's flag", short="f", value="FILE"
    ),
    Flag("pid-file", "write init's pid to FILE", value="FILE"),
    Flag("console-socket", "unix socket that gets the terminal's master", value="SOCKET"),
    Flag("pidfd-socket", "unix socket that gets a pidfd of init", value="SOCKET"),
    Flag("no-pivot", "move the root instead of pivot_root, for a host whose root is a ramfs"),
    Flag("no-new-keyring", "keep the caller's session keyring"),
    Flag("preserve-fds", "pass N descriptors, from 3 on, to the process", value="N"),
    Flag("no-subreaper", "accepted for compatibility, ignored: create leaves no process behind"),
    TRACE,
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Create the container."""
    create.create(settings, one_id(words, "create"), options_of(values, detach=True))
    return 0


def options_of(values: Values, *, detach: bool) -> CreateOptions:
    """Return the options by the values of these flags."""
    return CreateOptions(
        values["bundle"],
        config=values["config"],
        pid_file=values["pid-file"],
        console_socket=values["console-socket"],
        pidfd_socket=values["pidfd-socket"],
        pivot=not values["no-pivot"],
        new_keyring=not values["no-new-keyring"],
        preserve_fds=number(values["preserve-fds"], "preserve-fds"),
        detach=detach,
    )

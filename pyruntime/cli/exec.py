"""exec: run one more process in a container."""

from __future__ import annotations

from pyruntime.cli.flags import TRACE, Flag, number
from pyruntime.commands import exec
from pyruntime.errors import PyruntimeError, UsageError, from_oserror
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID COMMAND [ARGUMENT...], or --process FILE ID"
MIXED = False  # after the id everything is the command's
FLAGS = (
    Flag("process", "read the process from FILE, a process object of config.json", short="p", value="FILE"),
    Flag("tty", "allocate a terminal", short="t"),
    Flag("detach", "return once the process is started", short="d"),
    Flag("pid-file", "write the process's pid to FILE", value="FILE"),
    Flag("console-socket", "unix socket that gets the terminal's master", value="SOCKET"),
    Flag("pidfd-socket", "unix socket that gets a pidfd of the process", value="SOCKET"),
    Flag("cwd", "working directory in the container", value="DIR"),
    Flag("env", "set a variable, NAME=VALUE; may be given again", short="e", value="VARIABLE", many=True),
    Flag("user", "UID, or UID:GID", short="u", value="USER"),
    Flag("additional-gids", "add a group; may be given again", short="g", value="GID", many=True),
    Flag("cap", "add a capability, CAP_NAME; may be given again", short="c", value="CAP", many=True),
    Flag("no-new-privs", "set no_new_privs", default=""),
    Flag("process-label", "SELinux label of the process", value="LABEL"),
    Flag("apparmor", "AppArmor profile of the process", value="PROFILE"),
    Flag("preserve-fds", "pass N descriptors, from 3 on, to the process", value="N"),
    Flag("cgroup", "run in an existing sub-cgroup; may be given again", value="[CTRL:]PATH", many=True),
    Flag("ignore-paused", "run in a paused container once it is resumed"),
    TRACE,
)

_EXIT_CODE = 255  # as runc: the process's own exit status would be taken for one of 1


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Run the process: its exit status, 128 + N when signal N ended it; 0 with --detach; 255 if it cannot run."""
    try:
        if not words:
            raise UsageError("exec needs the container's id and a command", hint="see: pyruntime exec --help")
        return exec.run(settings, ContainerId(words[0]), _options_of(values, words[1:]))
    except PyruntimeError as error:
        error.exit_code = _EXIT_CODE
        raise
    except OSError as error:
        failure = from_oserror(error, doing="run the process")
        failure.exit_code = _EXIT_CODE
        raise failure from error


def _options_of(values: Values, args: list[str]) -> exec.ExecOptions:
    return exec.ExecOptions(
        args,
        process_file=values["process"],
        tty=values["tty"],
        cwd=values["cwd"],
        env=values["env"],
        user=values["user"],
        additional_gids=values["additional-gids"],
        cap=values["cap"],
        no_new_privs=None if values["no-new-privs"] == "" else values["no-new-privs"],
        process_label=values["process-label"],
        apparmor=values["apparmor"],
        cgroup=values["cgroup"],
        preserve_fds=number(values["preserve-fds"], "preserve-fds"),
        console_socket=values["console-socket"],
        pid_file=values["pid-file"],
        pidfd_socket=values["pidfd-socket"],
        detach=values["detach"],
        ignore_paused=values["ignore-paused"],
    )

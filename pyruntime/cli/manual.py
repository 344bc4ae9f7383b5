"""The manual page pyruntime(8), in the man macros of groff_man(7), from the tables that parse the command line."""

from __future__ import annotations

import re

from pyruntime.cli import main
from pyruntime.cli.completions import Command, commands
from pyruntime.cli.flags import HELP, Flag
from pyruntime.version import SPEC_VERSION, VERSION

# What a table has no room for: command -> sentences after its line of --help.
_MORE = {
    "create": "The container's resources are made, and its limits are set; the user's process does not run yet.",
    "start": "When it returns, the process runs; a process that cannot run is an error of start.",
    "run": "The exit status is that of the process, or 128 + N when signal N ended it. Then the container is deleted.",
    "kill": "The signal is a name, with or without SIG, or a number; TERM when there is none.",
    "delete": "A container that runs is deleted with --force only: its processes are killed. With --force an unknown "
    "id is not an error.",
    "exec": "The exit status is that of the process, or 255 when it could not be run. Without --process it is as the "
    "container's first one except for what flags say.",
    "ps": "Options after the id are those of ps(1); -ef when there are none.",
    "pause": "It returns when all processes are frozen.",
    "update": "What is not given stays as it is. When any of the limits is refused, none is changed.",
    "mounts": "FILE holds mounts as config.json does, - is standard input. remove unmounts what add has mounted, and "
    "nothing else. Of several mounts in one call either all are made or none.",
    "events": "Lines of JSON, in the form of runc's: one with statistics at each interval, one at each kill for want "
    "of memory. With --stats the statistics are printed once.",
    "checkpoint": "criu(8) does it, and must be installed. The container is deleted then, but with --leave-running or "
    "--pre-dump.",
    "restore": "The bundle is that of the container, or a copy of it. The exit status is that of run.",
    "spec": "A config.json that is there already is not written over.",
    "validate": "Every finding has its JSON pointer. Files, kernel, cgroups and users of this host are looked at too. "
    "The exit status is 1 when there is an error among them.",
    "explain": "With --diff two bundles or containers are compared; the exit status is 2 when a step differs.",
    "snapshot": "It is the memory of a started interpreter, which the launcher loads as long as no file that it was "
    "made of has changed. status says whether it is used, and why not; its exit status is then 1.",
    "doctor": "Nothing is changed. The exit status is 1 when no container can be made here.",
    "learn": "It writes a system call profile, a config.json and a report. The exit status is that of the process.",
    "features": "The form is that of features.md of the runtime specification.",
    "completion": "Installed ones are found by the shells; else, for bash: . <(pyruntime completion bash)",
}

_HEAD = """\
.\\" Made by tools/make-share.py from the tables of the command line.
.TH PYRUNTIME 8 "" "pyruntime {version}" "System Administration"
.SH NAME
pyruntime \\- run containers as the OCI runtime specification describes them
.SH SYNOPSIS
.B pyruntime
.RI [ flags ]
.I command
.RI [ flags ]
.RI [ id ]
\\&...
.SH DESCRIPTION
pyruntime makes a running container of a bundle: a directory with a
.I config.json
and a root filesystem, as version 1.0 to {spec} of the OCI runtime specification has them.
Engines such as containerd, docker and podman call it, and so can you.
It takes the place of runc: commands, flags, output and messages are the same except for what the documents of the
project name.
.PP
A flag is written with two dashes, or with one; its value is the next word, or follows a =.
Global flags come before the command.
Flags of a command may follow the id, except for exec and ps, where what follows the id is for others.
"""

_TAIL = """\
.SH EXIT STATUS
0 on success, 1 on an error.
.B run
and
.B exec
give back the status of the process;
.B exec
gives 255 when there is none.
.SH ENVIRONMENT
.TP
.B XDG_RUNTIME_DIR
where an ordinary user's containers have their state.
.TP
.B PYRUNTIME_SNAPSHOT
0 starts the interpreter and not its snapshot.
.TP
.B NO_COLOR
when it is set, and not empty, a terminal gets no colour.
.TP
.B NOTIFY_SOCKET
the container's READY=1 is passed on to it (sd_notify(3)).
.TP
.B LISTEN_FDS\\fR, \\fBLISTEN_PID
descriptors from 3 on that are passed to the container (sd_listen_fds(3)).
.SH FILES
.TP
.I /run/pyruntime/\\fIID
the state of a container, unless
.B \\-\\-root
names another directory.
.TP
.I $XDG_RUNTIME_DIR/pyruntime/\\fIID
the same for an ordinary user.
.TP
.I /etc/pyruntime/no\\-snapshot
while it is there no snapshot of the interpreter is made or used.
.SH EXAMPLES
.nf
pyruntime spec && mkdir rootfs && tar \\-C rootfs \\-xf image.tar
pyruntime run box
pyruntime create box && pyruntime start box
pyruntime exec \\-t box sh
pyruntime kill box KILL && pyruntime delete box
.fi
.SH SEE ALSO
.BR runc (8),
.BR crun (1),
.BR criu (8),
.BR namespaces (7),
.BR cgroups (7)
.br
https://github.com/opencontainers/runtime\\-spec
"""


def page() -> str:
    """Return the text of pyruntime.8."""
    parts = [_HEAD.format(version=VERSION, spec=SPEC_VERSION), ".SH GLOBAL FLAGS\n"]
    parts += [_flag(flag) for flag in (*main.GLOBAL, HELP)]
    parts.append(".SH COMMANDS\n")
    parts += [_command(one) for one in commands()]
    parts.append(_TAIL)
    return "".join(parts)


def _command(command: Command) -> str:
    words = [f".SS pyruntime {command.name} {_text(command.usage)}".rstrip()]
    words.append(_text(_sentence(command.help)))
    more = _MORE.get(command.name)
    if more:
        words.append(_text(more))
    return "\n".join(words) + "\n" + "".join(_flag(flag) for flag in command.flags if flag is not HELP)


def _flag(flag: Flag) -> str:
    head = f"\\fB\\-\\-{_text(flag.name)}\\fR"
    if flag.short:
        head = f"\\fB\\-{flag.short}\\fR, {head}"
    if flag.value:
        head += f" \\fI{_text(flag.value)}\\fR"
    shown = flag.default if flag.value and not flag.many else ""
    default = f" The default is {_text(str(shown))}." if shown else ""
    return f".TP\n{head}\n{_text(_sentence(flag.help))}{default}\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _text(text: str) -> str:
    """Return text in which roff finds nothing of its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.M)

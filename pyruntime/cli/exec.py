"""exec: run one more process in a container."""

from __future__ import annotations

from pyruntime.cli import descriptors, pidfd_socket, pidfile
from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import Context
from pyruntime.commands import foreground
from pyruntime.errors import PyruntimeError, StateError, UsageError, from_oserror
from pyruntime.features.cgroups import enter
from pyruntime.features.exec_registry import ExecPlan, ExecRequest
from pyruntime.features.namespaces import target
from pyruntime.runtime import exec
from pyruntime.spec import load
from pyruntime.state import store
from pyruntime.state.status import status_of
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.cli.terminal import Relay
    from pyruntime.state.store import Record

USAGE = "ID COMMAND [ARGUMENT...], or --process FILE ID"
MIXED = False  # after the id everything is the command's
FLAGS = (
    Flag("process", "read the process from FILE, a process object of config.json", short="p", value="FILE"),
    Flag("tty", "give the process a terminal", short="t"),
    Flag("detach", "return once the process runs", short="d"),
    Flag("pid-file", "write the process's pid to FILE", value="FILE"),
    Flag("console-socket", "unix socket that gets the terminal's master", value="SOCKET"),
    Flag("pidfd-socket", "unix socket that gets a pidfd of the process", value="SOCKET"),
    Flag("cwd", "working directory in the container", value="DIR"),
    Flag("env", "set a variable, NAME=VALUE; may be given again", short="e", value="VARIABLE", many=True),
    Flag("user", "UID, or UID:GID", short="u", value="USER"),
    Flag("additional-gids", "one more group; may be given again", short="g", value="GID", many=True),
    Flag("cap", "add a capability, CAP_NAME; may be given again", short="c", value="CAP", many=True),
    Flag("no-new-privs", "forbid to gain privileges by execve", default=""),
    Flag("process-label", "SELinux label of the process", value="LABEL"),
    Flag("apparmor", "AppArmor profile of the process", value="PROFILE"),
    Flag("preserve-fds", "pass N descriptors, from 3 on, to the process", value="N"),
    Flag("cgroup", "run in an existing sub-cgroup; may be given again", value="[CTRL:]PATH", many=True),
    Flag("ignore-paused", "also into a paused container: the process runs when it is resumed"),
    TRACE,
)

_EXIT_CODE = 255  # as runc: the process's own exit status would be taken for one of 1
_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 is -1, "no id" (credentials(7))
_MOST_GROUPS = 65536  # NGROUPS_MAX (setgroups(2))
# Flags and the members of the process that they set.
_MEMBERS = (
    ("tty", "terminal"),
    ("env", "env"),
    ("cwd", "cwd"),
    ("apparmor", "apparmorProfile"),
    ("process-label", "selinuxLabel"),
    ("no-new-privs", "noNewPrivileges"),
    ("cap", "capabilities"),
    ("user", "user"),
    ("additional-gids", "user"),
)
# What a process of --process that does not say so has from the container's first (libcontainer).
_INHERITED = (
    "apparmorProfile",
    "capabilities",
    "execCPUAffinity",
    "ioPriority",
    "oomScoreAdj",
    "scheduler",
    "selinuxLabel",
)


class Origin:
    """Where the members of the process come from, so that an error does not name config.json for the command line.

    file:    the file of --process, "" for the command line or the caller of the library.
    members: the names of those that come from there; the others are config.json's."""

    __slots__ = ("file", "members")

    def __init__(self) -> None:
        self.file = ""
        self.members: set[str] = set()

    def correct(self, error: PyruntimeError) -> None:
        """Correct the pointer of an error."""
        for one in (error, error.brief):
            if one is None or not (one.pointer or "").startswith("/process/"):
                continue
            pointer = (one.pointer or "")[len("/process") :]
            if pointer.split("/")[1] in self.members:
                one.file, one.pointer = (self.file, pointer) if self.file else (one.file, None)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Run the process: its exit status, 128 + N when signal N ended it; 0 with --detach; 255 if it cannot run."""
    origin = Origin()
    try:
        return _run(context, values, words, origin)
    except PyruntimeError as error:
        error.exit_code = _EXIT_CODE
        origin.correct(error)
        raise
    except OSError as error:
        failure = from_oserror(error, doing="run the process")
        failure.exit_code = _EXIT_CODE
        raise failure from error


def _run(context: Context, values: dict[str, Any], words: list[str], origin: Origin) -> int:
    if not words:
        raise UsageError("exec needs the container's id and a command", hint="see: pyruntime exec --help")
    record = store.load(context.root, ContainerId(words[0]))
    check_status(record, ignore_paused=values["ignore-paused"])
    if values["pid-file"]:
        pidfile.check(values["pid-file"])
    config = load.load_object(record.path(store.CONFIG))
    config["process"] = process_of(context, config.get("process") or {}, values, words[1:], origin)
    preserve_fds = descriptors.preserved(values["preserve-fds"])
    joined = target.find(record)
    request = request_of(
        record,
        config,
        joined,
        context.rootless,
        cgroups=enter.chosen(record.cgroups, values["cgroup"]),
        sub_cgroup=bool(values["cgroup"]),
        preserve_fds=preserve_fds,
        console_socket=values["console-socket"] or None,
        detach=values["detach"],
    )
    relay = _prepare_terminal(request)
    connection = pidfd_socket.connect(values["pidfd-socket"])
    plan = ExecPlan(request)
    for text in request.warnings:
        context.log.warning(text)
    if not request.detach:
        foreground.hold_signals()
    parent = exec.ExecParent(plan, record, context.log)
    parent.patient = values["ignore-paused"]
    try:
        exec.start(parent, joined, None if relay is None else relay.connect)
        joined.close()
        try:
            if connection is not None:
                pidfd_socket.send(connection, parent.pidfd, "setns")
            if values["pid-file"]:
                pidfile.write(values["pid-file"], parent.pid)
        except BaseException:
            exec.end(parent)
            raise
        if request.detach:
            return 0
        return foreground.attend(parent.pid, parent.pidfd, () if relay is None else (relay,))
    finally:
        if relay is not None:
            relay.restore()


def request_of(
    record: Record, config: dict[str, Any], joined: target.Target, rootless: bool, **options: Any
) -> ExecRequest:
    """What a process in a container is planned from, for the command, the shim and the library alike.

    options: as of ExecRequest. What `create` was told and the record keeps holds for the process, too."""
    return ExecRequest(
        config,
        id=record.id,
        bundle=record.bundle,
        target=joined,
        rootless=rootless,
        new_keyring="no_new_keyring" not in record.extra,
        **options,
    )


def _prepare_terminal(request: ExecRequest) -> Relay | None:
    """Connect whom the terminal's master goes to. Gives back the relay if that is us."""
    terminal = request.process.get("terminal")
    if not terminal and not request.console_socket:
        return None
    from pyruntime.features.rootfs import console

    console.check(request)
    if request.console_socket:
        request.console = console.connect(request.console_socket)
        return None
    from pyruntime.cli import terminal as relays

    return relays.Relay(request)


def check_status(record: Record, *, ignore_paused: bool) -> None:
    """Raise StateError unless a process can be run in the container."""
    status = status_of(record)
    if status == "stopped":
        raise target.gone(record.id)
    if status == "creating":
        raise StateError(
            f"cannot exec in a container that is being created: {record.id}", hint="wait until create has returned"
        )
    if status == "paused" and not ignore_paused:
        raise StateError("cannot exec in a paused container (use --ignore-paused to override)")


def process_of(
    context: Context, first: dict[str, Any], values: dict[str, Any], command: list[str], origin: Origin
) -> dict[str, Any]:
    """The process to run: that of --process, or the container's first one as the flags change it."""
    if values["process"]:
        if command:
            raise UsageError(f"--process and a command, {command[0]!r}, exclude each other")
        origin.file = values["process"]
        return complete(context, first, load.load_given(origin.file), origin.file, origin)
    if not command:
        raise UsageError("process args cannot be empty", hint="give a command after the id, or --process FILE")
    origin.members = {"args", *(member for flag, member in _MEMBERS if values[flag])}
    process = {name: value for name, value in first.items() if name not in ("terminal", "consoleSize")}
    process["args"] = command
    if values["tty"]:
        process["terminal"] = True
    for entry in values["env"]:
        if entry.find("=") <= 0:
            raise UsageError(f"--env {entry!r} is not NAME=value")
    process["env"] = [*(first.get("env") or ()), *values["env"]]
    if values["cwd"]:
        process["cwd"] = values["cwd"]
    if not process.setdefault("cwd", "/").startswith("/"):
        raise UsageError("Cwd must be an absolute path", hint="give --cwd from the container's root")
    if values["apparmor"]:
        process["apparmorProfile"] = values["apparmor"]
    if values["process-label"]:
        process["selinuxLabel"] = values["process-label"]
    if values["no-new-privs"] != "":
        process["noNewPrivileges"] = values["no-new-privs"]
    if values["cap"]:
        process["capabilities"] = _add_capabilities(first.get("capabilities") or {}, values["cap"])
    process["user"] = _user(first.get("user") or {}, values["user"], values["additional-gids"])
    return process


def complete(
    context: Context, first: dict[str, Any], process: dict[str, Any], name: str, origin: Origin
) -> dict[str, Any]:
    """Check a process object, which errors call by name, and add what it has from the container's first one."""
    from pyruntime.spec import check

    origin.members = set(process)
    for problem in check.without_errors(check.check_process(process), name):
        context.log.warning(f"{name}: {problem}")
    if not process.get("args"):
        raise UsageError(f"{name}: process args cannot be empty", hint="set args")
    for member in _INHERITED:
        if member in first:
            process.setdefault(member, first[member])
    umask = (first.get("user") or {}).get("umask")
    if umask is not None:
        process.setdefault("user", {}).setdefault("umask", umask)
    return process


def _add_capabilities(sets: dict[str, list[str]], names: list[str]) -> dict[str, list[str]]:
    """The sets with more capabilities in them; never inheritable ones (CVE-2022-29162).

    Ambient ones only where the container has inheritable ones already: the kernel asks for both."""
    kinds = ["bounding", "effective", "permitted"]
    if sets.get("inheritable"):
        kinds.append("ambient")
    return {**sets, **{kind: [*(sets.get(kind) or ()), *names] for kind in kinds}}


def _user(first: dict[str, Any], text: str, groups: list[str]) -> dict[str, Any]:
    user = dict(first)
    if text:
        uid, colon, gid = text.partition(":")
        user["uid"] = _id(uid, f"--user {text}: uid")
        if colon:
            user["gid"] = _id(gid, f"--user {text}: gid")
    if groups:
        more = [_id(group, "--additional-gids") for group in groups]
        user["additionalGids"] = [*(first.get("additionalGids") or ()), *more]
        if len(set(user["additionalGids"])) > _MOST_GROUPS:
            raise UsageError(f"--additional-gids: the process would have more than {_MOST_GROUPS} groups")
    return user


def _id(text: str, what: str) -> int:
    """A user or group id: digits only (CVE-2026-30892: whatever is no number must not become 0)."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _HIGHEST_ID:
        return int(text)
    raise UsageError(
        f"{what} {text!r} is not a number from 0 to {_HIGHEST_ID}", hint="give numbers, names are not looked up"
    )

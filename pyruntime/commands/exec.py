"""exec: run one more process in a container."""

from __future__ import annotations

from pyruntime.commands import descriptors, foreground, pid_file, pidfd_socket
from pyruntime.errors import PyruntimeError, StateError, UsageError
from pyruntime.features.cgroups import enter
from pyruntime.features.exec_registry import ExecPlan, ExecRequest
from pyruntime.features.namespaces import target
from pyruntime.runtime import exec
from pyruntime.spec import load
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.commands.settings import Settings
    from pyruntime.commands.terminal import Relay
    from pyruntime.spec.sections import Process, User
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId
    from pyruntime.util.log import Log

_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 is -1, "no id" (credentials(7))
_MOST_GROUPS = 65536  # NGROUPS_MAX (setgroups(2))
# Options and the members of the process that they set.
_MEMBERS = (
    ("tty", "terminal"),
    ("env", "env"),
    ("cwd", "cwd"),
    ("apparmor", "apparmorProfile"),
    ("process_label", "selinuxLabel"),
    ("no_new_privs", "noNewPrivileges"),
    ("cap", "capabilities"),
    ("user", "user"),
    ("additional_gids", "user"),
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


class ExecOptions:
    """What a caller may ask of `exec` besides the container's id.

    args:            the command and its arguments; the rest of the process is that of the container's first one.
    process:         a whole process object of config.json instead; process_file: a file that holds one.
    tty:             give the process a terminal.
    cwd, env, user, additional_gids, cap, no_new_privs, process_label, apparmor: what differs from the first process;
                     user is "UID" or "UID:GID", env holds "NAME=VALUE".
    cgroup:          the sub-cgroups to run in, "PATH" or "CONTROLLER:PATH".
    preserve_fds:    how many descriptors from 3 on the process gets.
    console_socket:  the unix socket that gets the master of the terminal.
    pid_file:        where to write the pid of the process.
    pidfd_socket:    the unix socket that gets a pidfd of the process.
    detach:          do not wait for the process in the foreground.
    ignore_paused:   enter a paused container, too: the process runs once it is resumed."""

    __slots__ = (
        "additional_gids",
        "apparmor",
        "args",
        "cap",
        "cgroup",
        "console_socket",
        "cwd",
        "detach",
        "env",
        "ignore_paused",
        "no_new_privs",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
        "process",
        "process_file",
        "process_label",
        "tty",
        "user",
    )

    def __init__(
        self,
        args: list[str] | None = None,
        *,
        process: Process | None = None,
        process_file: str = "",
        tty: bool = False,
        cwd: str = "",
        env: list[str] | None = None,
        user: str = "",
        additional_gids: list[str] | None = None,
        cap: list[str] | None = None,
        no_new_privs: bool | None = None,
        process_label: str = "",
        apparmor: str = "",
        cgroup: list[str] | None = None,
        preserve_fds: int = 0,
        console_socket: str = "",
        pid_file: str = "",
        pidfd_socket: str = "",
        detach: bool = True,
        ignore_paused: bool = False,
    ) -> None:
        self.args = args or []
        self.process = process
        self.process_file = process_file
        self.tty = tty
        self.cwd = cwd
        self.env = env or []
        self.user = user
        self.additional_gids = additional_gids or []
        self.cap = cap or []
        self.no_new_privs = no_new_privs
        self.process_label = process_label
        self.apparmor = apparmor
        self.cgroup = cgroup or []
        self.preserve_fds = preserve_fds
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.detach = detach
        self.ignore_paused = ignore_paused


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


class Prepared:
    """A process of a container: planned, and not run yet.

    request: what it is planned from. parent: once it runs."""

    def __init__(
        self,
        settings: Settings,
        id: ContainerId,
        options: ExecOptions,
        terminal: Callable[[ExecRequest], Relay | None] | None = None,
    ) -> None:
        """terminal: is called before the plan is made, and gives back the relay of the process's terminal.

        Raises PyruntimeError."""
        self.settings = settings
        self.options = options
        self.origin = Origin()
        self.record = store.load(settings.root, id)
        _check_status(self.record, ignore_paused=options.ignore_paused)
        if options.pid_file:
            pid_file.check(options.pid_file)
        config = load.load_object(self.record.path(store.CONFIG))
        try:
            first: Process = config["process"] if config.get("process") else {}
            config["process"] = _process_of(settings.log, first, options, self.origin)
            preserve_fds = descriptors.preserved(options.preserve_fds)
            self.target = target.find(self.record)
            self.request = ExecRequest(
                config,
                id=self.record.id,
                bundle=self.record.bundle,
                target=self.target,
                rootless=settings.rootless,
                new_keyring="no_new_keyring" not in self.record.extra,  # as at `create`
                cgroups=enter.chosen(self.record.cgroups, options.cgroup),
                sub_cgroup=bool(options.cgroup),
                preserve_fds=preserve_fds,
                console_socket=options.console_socket or None,
                detach=options.detach,
            )
            self.relay = terminal(self.request) if terminal is not None else None
            self.plan = ExecPlan(self.request)
        except PyruntimeError as error:
            self.origin.correct(error)
            raise

    def run(self) -> exec.ExecParent:
        """Run it: when this returns, the process executes its program. Raises PyruntimeError."""
        connection = pidfd_socket.connect(self.options.pidfd_socket)
        for text in self.request.warnings:
            self.settings.log.warning(text)
        parent = exec.ExecParent(self.plan, self.record, self.settings.log)
        parent.patient = self.options.ignore_paused
        try:
            exec.start(parent, self.target, None if self.relay is None else self.relay.connect)
        except PyruntimeError as error:
            self.origin.correct(error)
            raise
        self.target.close()
        try:
            if connection is not None:
                pidfd_socket.send(connection, parent.pidfd, "setns")
            if self.options.pid_file:
                pid_file.write(self.options.pid_file, parent.pid)
        except BaseException:
            exec.end(parent)
            raise
        return parent

    def run_again(self) -> exec.ExecParent:
        """As `run`, some time after it was planned: if the container is still in a state for that."""
        _check_status(self.record, ignore_paused=self.options.ignore_paused)
        return self.run()


def run(settings: Settings, id: ContainerId, options: ExecOptions) -> int:
    """Run a process: its exit status, 128 + N when signal N ended it; 0 with options.detach."""
    prepared = Prepared(settings, id, options, _relay_of)
    if not options.detach:
        foreground.hold_signals()
    try:
        parent = prepared.run()
        if options.detach:
            return 0
        return foreground.attend(parent.pid, parent.pidfd, () if prepared.relay is None else (prepared.relay,))
    finally:
        if prepared.relay is not None:
            prepared.relay.restore()


def _relay_of(request: ExecRequest) -> Relay | None:
    """Connect the receiver of the terminal's master. Gives back the relay if that is this process."""
    if not request.process.get("terminal") and not request.console_socket:
        return None
    from pyruntime.features.rootfs import console

    console.check(request)
    if request.console_socket:
        request.console = console.connect(request.console_socket)
        return None
    from pyruntime.commands import terminal

    return terminal.Relay(request)


def _check_status(record: Record, *, ignore_paused: bool) -> None:
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


def _process_of(log: Log, first: Process, options: ExecOptions, origin: Origin) -> Process:
    """Return the process to run: the one that was given, or the container's first one as the options change it."""
    command = options.args
    if options.process is not None:
        return _complete(log, first, options.process, "process", origin)
    if options.process_file:
        if command:
            raise UsageError(f"--process and a command, {command[0]!r}, exclude each other")
        origin.file = options.process_file
        return _complete(log, first, load.load_given(origin.file), origin.file, origin)
    if not command:
        raise UsageError("process args cannot be empty", hint="give a command after the id, or --process FILE")
    origin.members = {"args", *(member for option, member in _MEMBERS if getattr(options, option))}
    process: Process = {**first}
    process.pop("terminal", None)
    process.pop("consoleSize", None)
    process["args"] = command
    if options.tty:
        process["terminal"] = True
    for entry in options.env:
        if entry.find("=") <= 0:
            raise UsageError(f"--env {entry!r} is not NAME=value")
    process["env"] = [*(first.get("env") or ()), *options.env]
    if options.cwd:
        process["cwd"] = options.cwd
    if not process.setdefault("cwd", "/").startswith("/"):
        raise UsageError("Cwd must be an absolute path", hint="give --cwd from the container's root")
    if options.apparmor:
        process["apparmorProfile"] = options.apparmor
    if options.process_label:
        process["selinuxLabel"] = options.process_label
    if options.no_new_privs is not None:
        process["noNewPrivileges"] = options.no_new_privs
    if options.cap:
        process["capabilities"] = _add_capabilities(first.get("capabilities") or {}, options.cap)
    process["user"] = _user(first.get("user") or {}, options.user, options.additional_gids)
    return process


def _complete(log: Log, first: Process, process: Process, name: str, origin: Origin) -> Process:
    """Check a process object, which errors call by name, and add what it has from the container's first one."""
    from pyruntime.spec import check

    origin.members = set(process)
    for problem in check.without_errors(check.check_process(process), name):
        log.warning(f"{name}: {problem}")
    if not process.get("args"):
        raise UsageError(f"{name}: process args cannot be empty", hint="set args")
    for member in _INHERITED:
        if member in first:
            process.setdefault(member, first[member])  # type: ignore[literal-required, misc]
    umask = (first.get("user") or {}).get("umask")
    if umask is not None:
        process.setdefault("user", {}).setdefault("umask", umask)
    return process


def _add_capabilities(sets: dict[str, list[str]], names: list[str]) -> dict[str, list[str]]:
    """Return the sets with more capabilities in them; never inheritable ones (CVE-2022-29162).

    Ambient ones only where the container has inheritable ones already: the kernel asks for both."""
    kinds = ["bounding", "effective", "permitted"]
    if sets.get("inheritable"):
        kinds.append("ambient")
    return {**sets, **{kind: [*(sets.get(kind) or ()), *names] for kind in kinds}}


def _user(first: User, text: str, groups: list[str]) -> User:
    user: User = {**first}
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
    """Parse a user or group id: digits only (CVE-2026-30892: what is not a number must not become 0)."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _HIGHEST_ID:
        return int(text)
    raise UsageError(
        f"{what} {text!r} is not a number from 0 to {_HIGHEST_ID}", hint="give numbers, names are not looked up"
    )

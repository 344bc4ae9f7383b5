"""create: make a container; its init waits for start when the command returns."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.cli import descriptors, pidfd_socket, pidfile
from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import Context, one_id
from pyruntime.commands import lifecycle
from pyruntime.plan.request import Request
from pyruntime.spec import check, load
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

USAGE = "ID"
FLAGS = (
    Flag("bundle", "directory that holds config.json (default: the working directory)", short="b", value="DIR"),
    Flag("config", "read the config from FILE instead of BUNDLE/config.json, as for crun", short="f", value="FILE"),
    Flag("pid-file", "write init's pid to FILE", value="FILE"),
    Flag("console-socket", "unix socket that gets the terminal's master", value="SOCKET"),
    Flag("pidfd-socket", "unix socket that gets a pidfd of init", value="SOCKET"),
    Flag("no-pivot", "move the root instead of pivot_root, for a host whose root is a ramfs"),
    Flag("no-new-keyring", "keep the caller's session keyring"),
    Flag("preserve-fds", "pass N descriptors, from 3 on, to the process", value="N"),
    Flag("no-subreaper", "taken and ignored: create leaves no process behind"),
    TRACE,
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Create the container."""
    create(context, values, one_id(words, "create"), detach=True)
    return 0


def create(context: Context, values: dict[str, Any], id: ContainerId, *, detach: bool) -> Record:
    """Create a container as the flags say, and write its pid file: its record."""
    request, raw = request_of(context, values, id, detach=detach)
    return make(context, values, request, raw)


def make(context: Context, values: dict[str, Any], request: Request, raw: str) -> Record:
    """Create what was asked for (see `request_of`), and tell whoever wants to know its pid."""
    if values["pid-file"]:
        pidfile.check(values["pid-file"])
    receiver = (request.config.get("annotations") or {}).get("run.oci.pidfd_receiver") or ""
    connection = pidfd_socket.connect(values["pidfd-socket"] or receiver)
    record = lifecycle.create(request, context.root, raw, context.log)
    try:
        if connection is not None:
            _send_pidfd(connection, record, "standard" if values["pidfd-socket"] else " ")
        if values["pid-file"]:
            pidfile.write(values["pid-file"], record.pid)
    except BaseException as error:
        lifecycle.undo_created(record, context.log, error)
        raise
    return record


def _send_pidfd(connection: socket, record: Record, name: str) -> None:
    pidfd = open_init(record)
    try:
        pidfd_socket.send(connection, pidfd, name)
    finally:
        posix.close(pidfd)


def request_of(context: Context, values: dict[str, Any], id: ContainerId, *, detach: bool) -> tuple[Request, str]:
    """Load and check a bundle: (what to make, config.json as it was read)."""
    listening = descriptors.listening()
    preserve_fds = descriptors.preserved(values["preserve-fds"], listening)
    bundle = values["bundle"] or "."
    if not bundle.startswith("/"):
        bundle = posix.getcwd() if bundle == "." else f"{posix.getcwd()}/{bundle}"
    file = values.get("config") or f"{bundle}/config.json"
    raw = load.read_file(file)
    config = load.parse_object(raw, file)
    problems = check.require(config)
    request = Request(
        config,
        id=id,
        bundle=bundle.rstrip("/") or "/",
        layout=layout.find(),
        rootless=context.rootless,
        pivot=not values["no-pivot"],
        new_keyring=not values["no-new-keyring"],
        preserve_fds=preserve_fds,
        console_socket=values["console-socket"] or None,
        detach=detach,
        systemd_cgroup=context.systemd_cgroup,
    )
    if listening and request.process:
        env = request.process.get("env") or ()
        request.process["env"] = [*env, f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
    if posix.environ.get(b"NOTIFY_SOCKET"):
        from pyruntime.features import notify_socket

        notify_socket.show(request, context.root)
    for problem in problems:
        request.warn(f"config.json: {problem}")
    return request, raw.decode("utf-8", "surrogateescape")

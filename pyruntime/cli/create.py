"""create: make a container; its init waits for start when the command returns."""

from __future__ import annotations

import posix

from pyruntime import container, state
from pyruntime.cgroups import layout
from pyruntime.cli.flags import Flag, number
from pyruntime.cli.main import Context, one_id
from pyruntime.errors import StateError, errno_name, strerror
from pyruntime.plan.request import Request
from pyruntime.spec import check, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.state import Record

USAGE = "ID"
FLAGS = (
    Flag("bundle", "directory that holds config.json (default: the working directory)", short="b", value="DIR"),
    Flag("pid-file", "write init's pid to FILE", value="FILE"),
    Flag("console-socket", "unix socket that gets the terminal's master", value="SOCKET"),
    Flag("no-pivot", "move the root instead of pivot_root, for a host whose root is a ramfs"),
    Flag("no-new-keyring", "keep the caller's session keyring"),
    Flag("preserve-fds", "pass N descriptors, from 3 on, to the process", value="N"),
    Flag("no-subreaper", "taken and ignored: create leaves no process behind"),
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Create the container."""
    create(context, values, one_id(words, "create"), detach=True)
    return 0


def create(context: Context, values: dict[str, Any], id: str, *, detach: bool) -> Record:
    """Create a container as the flags say, and write its pid file: its record."""
    request, raw = request_of(context, values, id, detach=detach)
    if values["pid-file"]:
        _check_pid_file(values["pid-file"])
    record = container.create(request, context.root, raw, context.log)
    if values["pid-file"]:
        try:
            write_pid_file(values["pid-file"], record.pid)
        except BaseException:
            container.destroy(record)
            raise
    return record


def request_of(context: Context, values: dict[str, Any], id: str, *, detach: bool) -> tuple[Request, str]:
    """Load and check a bundle: (what to make, config.json as it was read)."""
    state.check_id(id)
    bundle = values["bundle"] or "."
    if not bundle.startswith("/"):
        bundle = posix.getcwd() if bundle == "." else f"{posix.getcwd()}/{bundle}"
    raw = load.read_config(bundle)
    config = load.parse_object(raw, f"{bundle}/config.json")
    problems = check.require(config)
    request = Request(
        config,
        id=id,
        bundle=bundle.rstrip("/") or "/",
        layout=layout.find(),
        rootless=context.rootless,
        pivot=not values["no-pivot"],
        new_keyring=not values["no-new-keyring"],
        preserve_fds=number(values["preserve-fds"], "preserve-fds"),
        console_socket=values["console-socket"] or None,
        detach=detach,
        systemd_cgroup=context.systemd_cgroup,
    )
    for problem in problems:
        request.warn(f"config.json: {problem}")
    return request, raw.decode("utf-8", "surrogateescape")


def _check_pid_file(path: str) -> None:
    """Raise StateError for a place that cannot take a pid file, before a container is made."""
    directory = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
    try:
        posix.stat(directory)
    except OSError as error:
        raise StateError(
            f"--pid-file {path}: {strerror(error.errno)} ({errno_name(error.errno)})",
            mend="make its directory first",
        ) from None


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid as a whole: who sees the file sees the number."""
    directory, _, name = path.rpartition("/")
    directory = directory or ("/" if path.startswith("/") else ".")
    try:
        state.write_atomically(directory, name, str(pid), mode=0o644)
    except OSError as error:
        raise StateError(f"--pid-file {path}: {strerror(error.errno)} ({errno_name(error.errno)})") from error

"""What becomes part of a path: ids of containers and execs, namespaces of containerd, paths of bundles."""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError, StateError
from pyruntime.state import check_id


def check(id: str, namespace: str) -> None:
    """Raise PyruntimeError unless a container's id and its namespace can be names of directories."""
    check_id(id)
    try:
        check_id(namespace)
    except StateError:
        mend = "use the name of a namespace of containerd"
        raise PyruntimeError(f"invalid namespace: {namespace!r}", mend=mend) from None


def check_bundle(path: str) -> None:
    """Raise PyruntimeError unless a path is that of a bundle, before anything is written there."""
    if not path.startswith("/"):
        raise PyruntimeError(f"the path of the bundle is not absolute: {path!r}")
    try:
        posix.close(posix.open(f"{path}/config.json", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PyruntimeError(f"invalid bundle: {path}/config.json: {reason}") from None

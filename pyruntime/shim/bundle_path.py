"""What becomes part of a path and is not an id (util/ids.py): paths of bundles."""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError


def check_bundle(path: str) -> None:
    """Raise PyruntimeError unless a path is that of a bundle, before anything is written there."""
    if not path.startswith("/"):
        raise PyruntimeError(f"the path of the bundle is not absolute: {path!r}")
    names = path.split("/")
    if not any(names) or "." in names or ".." in names:
        raise PyruntimeError(f"invalid bundle: {path!r}", hint="give its path without . and ..")
    try:
        posix.close(posix.open(f"{path}/config.json", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PyruntimeError(f"invalid bundle: {path}/config.json: {reason}") from None

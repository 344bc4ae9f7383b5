"""Validation of bundle paths."""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError


def check_bundle(path: str) -> None:
    """Raise PyruntimeError unless path is absolute, without . and .., and has a readable config.json."""
    if not path.startswith("/"):
        raise PyruntimeError(f"bundle path is not absolute: {path!r}")
    names = path.split("/")
    if not any(names) or "." in names or ".." in names:
        raise PyruntimeError(f"invalid bundle: {path!r}", hint="give its path without . and ..")
    try:
        posix.close(posix.open(f"{path}/config.json", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PyruntimeError(f"invalid bundle: {path}/config.json: {reason}") from None

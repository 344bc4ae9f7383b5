"""Names that come from a caller. Each is checked once, where it enters, and has a type of its own from there on.

A function that takes a ContainerId can build a path from it: mypy finds the caller that passes an unchecked string.
"""

from __future__ import annotations

from pyruntime.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")
_REST = _FIRST | {"."}
_LONGEST = 1024


class _Name(str):
    """A string that is one file name, neither "." nor ".."; `_Name(text)` checks it and raises StateError."""

    __slots__ = ()
    KIND, ARTICLE = "name", "a"

    def __new__(cls, text: str) -> Self:
        if isinstance(text, cls):
            return text
        if not text:
            raise StateError(f"{cls.KIND} cannot be empty", hint=f"give {cls.ARTICLE} {cls.KIND}")
        if len(text) > _LONGEST or text[0] not in _FIRST or not _REST.issuperset(text):
            shown = text if len(text) <= _LONGEST else f"{text[:40]}… ({len(text)} characters)"
            raise StateError(
                f"invalid {cls.KIND} format: {shown!r}",
                hint="use letters, digits, '_', '+', '-' and '.', not starting with '.'",
            )
        return str.__new__(cls, text)


class ContainerId(_Name):
    """A container id: `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*`, at most 1024 characters."""

    __slots__ = ()
    KIND = "container id"


class ExecId(_Name):
    """The id that containerd gives to one more process of a container."""

    __slots__ = ()
    KIND, ARTICLE = "exec id", "an"


class Namespace(_Name):
    """A namespace of containerd's: its containers have a state directory of their own."""

    __slots__ = ()
    KIND = "namespace"

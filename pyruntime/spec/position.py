"""Where in the text of config.json a JSON pointer points: for annotations that a CI system shows at their line."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WHITESPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


class Positions:
    """The places of all values of a JSON text (one that is JSON: it has been read before)."""

    def __init__(self, text: str) -> None:
        self._offsets: dict[str, int] = {}
        self._text = text
        try:
            for pointer, offset in _walk(text):
                self._offsets[pointer] = offset
        except (ValueError, IndexError, RecursionError):
            pass  # what was found up to there is right

    def find(self, pointer: str) -> tuple[int, int]:
        """Return (line, column), from 1, of a member's name or an item; of the nearest value above for what is not
        there."""
        while pointer and pointer not in self._offsets:
            pointer = pointer.rpartition("/")[0]
        before = self._text[: self._offsets.get(pointer, 0)]
        return before.count("\n") + 1, len(before) - before.rfind("\n")


def _walk(text: str) -> Iterator[tuple[str, int]]:
    """Yield (pointer, offset of the member's name or of the item), in the order of the text."""
    at = _skip(text, 0)
    yield "", at
    yield from _value(text, at, "", [at])


def _value(text: str, at: int, pointer: str, end: list[int]) -> Iterator[tuple[str, int]]:
    """Yield the values inside of the one at `at`; end[0] is then behind it."""
    if text[at] == "{":
        at = _skip(text, at + 1)
        while text[at] != "}":
            name, after = _DECODER.raw_decode(text, at)
            inner = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            yield inner, at
            at = _skip(text, _skip(text, after) + 1)  # over the colon
            yield from _value(text, at, inner, end)
            at = _next(text, end[0])
        end[0] = at + 1
    elif text[at] == "[":
        at = _skip(text, at + 1)
        index = 0
        while text[at] != "]":
            yield f"{pointer}/{index}", at
            yield from _value(text, at, f"{pointer}/{index}", end)
            at = _next(text, end[0])
            index += 1
        end[0] = at + 1
    elif text[at] == '"':
        end[0] = _DECODER.raw_decode(text, at)[1]
    else:
        while at < len(text) and text[at] not in ",]}" + WHITESPACE:
            at += 1
        end[0] = at


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in WHITESPACE:
        at += 1
    return at


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at

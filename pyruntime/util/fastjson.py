"""Read and write JSON with the C halves of CPython's `json`, without importing `json` itself.

`import json` drags in `re`, `enum`, `functools` and `collections`, which costs as much as starting the
interpreter does. The scanner and the encoder that do the work live in the C module `_json`. That module is
private to CPython, so this file is its only user: when `_json` or one of its two makers is missing or has
changed, `json` does the same job, and a test holds the two together.

`json` is also imported whenever a text turns out not to be JSON: a person then waits for the line and column.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scanner = Callable[[str, int], tuple[object, int]]
    Encoder = Callable[[object, int], tuple[str, ...]]

WHITESPACE = " \t\n\r"


def _no_constant(word: str) -> object:
    """Refuse NaN and the infinities: Python's `json` reads them, RFC 8259 has no such numbers."""
    raise ValueError(f"{word} is not a JSON value")


def _no_default(value: object) -> object:
    raise TypeError(f"Object of type {value.__class__.__name__} is not JSON serializable")


class _Context:
    """What `_json.make_scanner` reads from its argument (in `json` a JSONDecoder plays this part)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None  # asked for from Python 3.15 on
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


def _make() -> tuple[Scanner, Encoder, Callable[[str], str]] | None:
    try:
        import _json

        quote = _json.encode_basestring_ascii
        scan: Scanner = _json.make_scanner(_Context)  # type: ignore[arg-type]
        encode = _json.make_encoder(None, _no_default, quote, None, ":", ",", False, False, False)
        # A private interface can change without notice: believe it only once it has worked.
        if scan('{"a":[1]}', 0) != ({"a": [1]}, 9) or "".join(encode({"a": [1]}, 0)) != '{"a":[1]}':
            return None
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return scan, encode, quote


_fast = _make()


def loads(text: str) -> Any:
    """Return the value that the JSON `text` stands for. Of duplicate keys the last one wins.

    Raises json.JSONDecodeError (a ValueError with .msg, .lineno and .colno, both from 1) for anything that
    RFC 8259 does not allow, NaN and Infinity included, and for nesting that is too deep to be read.
    """
    if _fast is not None:
        body = text.strip(WHITESPACE)
        try:
            value, end = _fast[0](body, 0)
            if end == len(body):
                return value
        except (StopIteration, ValueError, RecursionError, SystemError):  # SystemError: 3.11, a text cut short
            pass
    return _loads_slowly(text)


def dumps(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON in ASCII: on one line without spaces, or indented by `indent` spaces a level.

    Raises TypeError for what JSON cannot hold and ValueError for NaN and the infinities.
    """
    if _fast is None:
        import json

        separators = (",", ":") if indent is None else (",", ": ")
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False, check_circular=False)
    if indent is None:
        return "".join(_fast[1](value, 0))
    parts: list[str] = []
    _indented(value, " " * indent, "\n", parts, _fast[1], _fast[2])
    return "".join(parts)


def _indented(
    value: object, step: str, margin: str, parts: list[str], encode: Encoder, quote: Callable[[str], str]
) -> None:
    """Append the indented form of `value` to `parts`; `margin` is a line break and its indentation."""
    inner = margin + step
    separator = inner
    if isinstance(value, dict) and value:
        parts.append("{")
        for key, item in value.items():
            # Other keys are left to the encoder, which knows how json spells true, null and numbers.
            name = quote(key) if isinstance(key, str) else "".join(encode({key: 0}, 0))[1:-3]
            parts.append(f"{separator}{name}: ")
            _indented(item, step, inner, parts, encode, quote)
            separator = "," + inner
        parts.append(margin + "}")
    elif isinstance(value, (list, tuple)) and value:
        parts.append("[")
        for item in value:
            parts.append(separator)
            _indented(item, step, inner, parts, encode, quote)
            separator = "," + inner
        parts.append(margin + "]")
    else:
        parts.extend(encode(value, 0))


def _loads_slowly(text: str) -> object:
    """Read `text` with `json`, whose errors say where; every refusal becomes a json.JSONDecodeError."""
    import json

    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        # Python 3.11 and 3.12 report what follows a trailing comma, later versions the comma.
        before = text[: error.pos].rstrip(WHITESPACE)
        if before.endswith(",") and text[error.pos : error.pos + 1] in ("]", "}"):
            kind = "array" if text[error.pos] == "]" else "object"
            message = f"Illegal trailing comma before end of {kind}"
            raise json.JSONDecodeError(message, text, len(before) - 1) from None
        raise
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", text, 0) from None
    except ValueError as error:
        # Not from the grammar: a constant (see _no_constant) or a number with thousands of digits.
        raise json.JSONDecodeError(str(error), text, _culprit(text)) from None
    return value


def _culprit(text: str) -> int:
    """Return the offset of the first constant or endless number outside of the strings of `text`, or 0."""
    import re

    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|(NaN|-?Infinity|\d{1000,})', text):
        if found.group(1) is not None:
            return found.start()
    return 0

"""Encode and decode protocol buffers, as far as containerd's messages need it (protobuf.dev, "Encoding").

A message is a dict of all its fields, described by the tables that tools/compile-messages.py generates from
proto/*.proto. The package protobuf is not used: its C extension alone takes 6 to 9 ms and 0.8 MiB of memory per
shim, all of it 40 ms and 5 MiB (docs/shim.md). tests/unit/test_shim_wire.py compares the two.
"""

from __future__ import annotations

from pyruntime.shim.messages import MESSAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Message = dict[str, Any]
    # number -> name, type, repeated
    Table = dict[int, tuple[str, str, bool]]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SCALARS = frozenset(("bool", "int32", "int64", "uint32", "uint64"))
_DEFAULTS: Message = {"string": "", "bytes": b"", "bool": False}
_tables: dict[str, tuple[Table, Message]] = {}


def encode(name: str, values: Message) -> bytes:
    """Encode a message. Fields that are missing or have their default value are not written."""
    out = bytearray()
    for number, field, kind, repeated in MESSAGES[name]:
        value = values.get(field)
        if not value:
            continue
        if kind == "map":
            for key, one in value.items():
                _put_bytes(out, number, _entry(key, one))
        elif repeated and kind in _SCALARS:
            packed = bytearray()
            for one in value:
                _put_varint(packed, int(one))
            _put_bytes(out, number, bytes(packed))
        elif repeated:
            for one in value:
                _put_bytes(out, number, _as_bytes(kind, one))
        elif kind in _SCALARS:
            _put_varint(out, number << 3 | _VARINT)
            _put_varint(out, int(value))
        else:
            _put_bytes(out, number, _as_bytes(kind, value))
    return bytes(out)


def _as_bytes(kind: str, value: Any) -> bytes:
    if kind == "string":
        return value.encode("utf-8", "surrogateescape")  # type: ignore[no-any-return]
    if kind == "bytes":
        return value  # type: ignore[no-any-return]
    return encode(kind, value)


def _entry(key: str, value: str) -> bytes:
    out = bytearray()
    _put_bytes(out, 1, key.encode())
    _put_bytes(out, 2, value.encode())
    return bytes(out)


def _put_varint(out: bytearray, value: int) -> None:
    value &= 0xFFFFFFFFFFFFFFFF  # negative numbers as 64 bits of two's complement
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, number: int, data: bytes) -> None:
    _put_varint(out, number << 3 | _BYTES)
    _put_varint(out, len(data))
    out += data


def decode(name: str, data: bytes) -> Any:
    """Decode a message: all fields, unset ones as 0, "", b"", False, [], {} or None. Raises ValueError."""
    table, unset = _table(name)
    values = dict(unset)
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        field, kind, repeated = table.get(tag >> 3, ("", "", False))
        form = tag & 7
        found: int | bytes
        if form == _VARINT:
            number, at = _varint(data, at)
            found = _number(kind, number)
        elif form == _BYTES:
            size, at = _varint(data, at)
            if size > end - at:
                raise ValueError(f"{name}: a field of {size} bytes is truncated")
            found = data[at : at + size]
            at += size
        elif form in (_FIXED64, _FIXED32):  # an unknown field
            at += 8 if form == _FIXED64 else 4
            continue
        else:
            raise ValueError(f"{name}: a field of form {form}")
        if not field:
            continue
        if (form == _BYTES) == (kind in _SCALARS) and not (repeated and form == _BYTES):
            raise ValueError(f"{name}.{field} is not a {kind}")
        _set(values, field, kind, repeated, found)
    return values


def _set(values: Message, field: str, kind: str, repeated: bool, found: Any) -> None:
    if kind == "map":
        # The empty one is every message's (`_table`); the first entry makes one of this message's own.
        if values[field]:
            values[field].update(_decode_entry(found))
        else:
            values[field] = _decode_entry(found)
    elif kind in _SCALARS:
        if not repeated:
            values[field] = found
        elif isinstance(found, bytes):
            at, numbers = 0, []
            while at < len(found):
                number, at = _varint(found, at)
                numbers.append(_number(kind, number))
            _extend(values, field, numbers)
        else:
            _extend(values, field, [found])
    else:
        value: Any = found
        if kind == "string":
            value = found.decode("utf-8", "surrogateescape")
        elif kind != "bytes":
            value = decode(kind, found)
        if repeated:
            _extend(values, field, [value])
        else:
            values[field] = value


def _extend(values: Message, field: str, more: Sequence[object]) -> None:
    """Append to a repeated field. Each element costs the same, however many there are."""
    if values[field]:
        values[field] += more
    else:
        values[field] = more  # the empty list is every message's (`_table`)


def _decode_entry(data: bytes) -> dict[str, str]:
    parts = {1: b"", 2: b""}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 != _BYTES:
            raise ValueError("a map with keys or values other than strings")
        size, at = _varint(data, at)
        parts[tag >> 3] = data[at : at + size]
        at += size
    return {parts[1].decode(): parts[2].decode()}


def _number(kind: str, number: int) -> int | bool:
    if kind == "bool":
        return number != 0
    if kind == "int32":
        number &= 0xFFFFFFFF
        return number - (1 << 32) if number >> 31 else number
    if kind == "int64":
        return number - (1 << 64) if number >> 63 else number
    return number & 0xFFFFFFFF if kind == "uint32" else number


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise ValueError("a varint of more than 64 bits")
    except IndexError:
        raise ValueError("a varint is truncated") from None


def _table(name: str) -> tuple[Table, Message]:
    known = _tables.get(name)
    if known is None:
        fields: Table = {}
        unset: Message = {}
        for number, field, kind, repeated in MESSAGES[name]:
            fields[number] = field, kind, repeated
            # Never changed while they are empty: `_set` makes new ones.
            unset[field] = (
                [] if repeated else {} if kind == "map" else _DEFAULTS.get(kind, 0 if kind in _SCALARS else None)
            )
        known = _tables[name] = fields, unset
    return known


def any_of(type_url: str, name: str, values: Message) -> Message:
    """Return a google.protobuf.Any with a message, under its type name in containerd."""
    return {"type_url": type_url, "value": encode(name, values)}

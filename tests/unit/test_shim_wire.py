"""The shim's protocol buffers, held against google's own library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyruntime.shim import wire
from pyruntime.shim.messages import MESSAGES

CHECKOUT = Path(__file__).resolve().parents[2]


def compiler() -> ModuleType:
    """tools/compile-messages.py as a module."""
    spec = importlib.util.spec_from_file_location("compile_messages", CHECKOUT / "tools/compile-messages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_proto_files() -> None:
    made = compiler()
    assert made.OUTPUT.read_text() == made.text(made.read())
    assert made.TYPES.read_text() == made.types(made.read())


INTEGERS = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
}
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    **INTEGERS,
    "bool": st.booleans(),
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=200),
}


def values(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any message of a name, with all its fields."""
    fields = {}
    for _, field, kind, repeated in MESSAGES[name]:
        if kind == "map":
            one: st.SearchStrategy[Any] = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
        elif kind in SCALARS:
            one = SCALARS[kind]
        else:
            one = values(kind)
        fields[field] = st.lists(one, max_size=3) if repeated else one
    return st.fixed_dictionaries(fields)


@given(st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MESSAGES)))
    value = data.draw(values(name))
    read = wire.decode(name, wire.encode(name, value))
    # A message without anything in it is not written, so it is read as unset.
    assert wire.encode(name, read) == wire.encode(name, value)
    for _, field, kind, repeated in MESSAGES[name]:
        if kind in SCALARS or kind == "map":
            assert read[field] == value[field]
        elif repeated:
            assert len(read[field]) == len(value[field])


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=100))
def test_anything_is_a_message_or_a_value_error(name: str, data: bytes) -> None:
    try:
        wire.decode(name, data)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\x05ab", b"\x80", b"\xff" * 11, b"\x0b", b"\x08\x01"], ids=lambda data: data.hex()
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode("ProcessRequest", data)


def test_unknown_fields_are_passed_over() -> None:
    known = wire.encode("ProcessRequest", {"id": "a", "exec_id": "b"})
    more = b"\xf8\x07\x01" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + b"\xfa\x07\x02ab"
    assert wire.decode("ProcessRequest", more + known) == {"id": "a", "exec_id": "b"}


# Google's library.


@pytest.fixture(scope="module")
def google() -> dict[str, Any]:
    """name -> class of each message, by the protobuf package."""
    pytest.importorskip("google.protobuf", reason="the package protobuf is not installed")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="shim.proto", package="shim", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated or kind == "map" else kinds.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label)
            if kind in SCALARS:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
            else:
                entry.type = kinds.TYPE_MESSAGE
                entry.type_name = f".shim.{kind}"
            if kind == "map":
                camel = "".join(word.capitalize() for word in field.split("_")) + "Entry"
                entry.type_name = f".shim.{name}.{camel}"
                nested = message.nested_type.add(name=camel)
                nested.options.map_entry = True
                for at, part in enumerate(("key", "value"), 1):
                    nested.field.add(name=part, number=at, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shim.{name}")) for name in MESSAGES}


@given(st.data())
def test_google_reads_what_is_written_and_writes_what_is_read(google: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MESSAGES)))
    value = data.draw(values(name))
    theirs = google[name].FromString(wire.encode(name, value))
    again = wire.decode(name, theirs.SerializeToString())
    assert again == wire.decode(name, wire.encode(name, value))
    for _, field, kind, repeated in MESSAGES[name]:
        if kind in SCALARS:
            assert (list(getattr(theirs, field)) if repeated else getattr(theirs, field)) == value[field]
        elif kind == "map":
            assert dict(getattr(theirs, field)) == value[field]

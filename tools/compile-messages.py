"""Makes pyruntime/shim/messages.py, and message_types.pyi for the type checker, from the .proto files beside them.

    python tools/compile-messages.py [--check]

The files have messages with fields of plain types, and nothing else: no packages, no nesting, no oneof.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "pyruntime/shim"
OUTPUT = FOLDER / "messages.py"
TYPES = FOLDER / "message_types.pyi"
SCALARS = ("string", "bytes", "bool", "int32", "int64", "uint32", "uint64")
HEAD = '''"""The messages of proto/*.proto as tables for wire.py. Made by tools/compile-messages.py: do not edit.

message -> its fields: (number, name, type, repeated). type: a scalar of protobuf, "map" (of strings), or a message.
"""

from __future__ import annotations

MESSAGES: dict[str, tuple[tuple[int, str, str, bool], ...]] = {
'''
TYPES_HEAD = '''"""The messages of proto/*.proto as types. Made by tools/compile-messages.py: do not edit.

A decoded message has all its fields; one to be sent may leave out those that are unset.
"""

from typing import TypedDict
'''
PYTHON = {"string": "str", "bytes": "bytes", "bool": "bool", "map": "dict[str, str]"}
FIELD = re.compile(r"(repeated )?(map<string, string>|\w+) (\w+) = (\d+);")

Fields = list[tuple[int, str, str, bool]]


def read(folder: Path = FOLDER / "proto") -> dict[str, Fields]:
    """Return the messages of all files: name -> fields."""
    messages: dict[str, Fields] = {}
    for path in sorted(folder.glob("*.proto")):
        fields: Fields | None = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = line.partition("//")[0].strip()
            if not text or text.startswith("syntax"):
                continue
            if begin := re.fullmatch(r"message (\w+) \{", text):
                assert begin[1] not in messages, f"{path.name}:{number}: {begin[1]} again"
                fields = messages[begin[1]] = []
            elif text == "}":
                fields = None
            else:
                found = FIELD.fullmatch(text)
                assert found and fields is not None, f"{path.name}:{number}: not understood: {line}"
                kind = "map" if found[2].startswith("map") else found[2]
                fields.append((int(found[4]), found[3], kind, bool(found[1])))
    for name, fields in messages.items():
        for _, field, kind, _ in fields:
            assert kind in SCALARS or kind == "map" or kind in messages, f"{name}.{field}: no message {kind}"
    return messages


def text(messages: dict[str, Fields]) -> str:
    """messages.py as it is to be."""
    lines = [HEAD]
    for name, fields in sorted(messages.items()):
        lines.append(f'    "{name}": (')
        lines[-1] += "),\n" if not fields else "\n"
        for number, field, kind, repeated in fields:
            lines.append(f'        ({number}, "{field}", "{kind}", {repeated}),\n')
        if fields:
            lines.append("    ),\n")
    return "".join(lines) + "}\n"


def type_name(message: str) -> str:
    """Return the name of a message's type: not that of typing.Any."""
    return "AnyMessage" if message == "Any" else message


def types(messages: dict[str, Fields]) -> str:
    """message_types.pyi as it is to be."""
    lines = [TYPES_HEAD]
    for name, fields in sorted(messages.items()):
        lines.append(f"\nclass {type_name(name)}(TypedDict, total=False):" + ("\n" if fields else " ...\n"))
        for _, field, kind, repeated in fields:
            found = PYTHON.get(kind) or ("int" if kind in SCALARS else type_name(kind))
            if repeated:
                found = f"list[{found}]"
            elif kind in messages:
                found += " | None"
            lines.append(f"    {field}: {found}\n")
    return "".join(lines)


if __name__ == "__main__":
    messages = read()
    for path, new in ((OUTPUT, text(messages)), (TYPES, types(messages))):
        if path.exists() and path.read_text() == new:
            continue
        if "--check" in sys.argv:
            sys.exit(1)
        path.write_text(new)
        print(f"wrote {path}")

"""The full check, by `jsonschema` and the files in oci-spec/: for `validate` and tests, not for hot commands.

`pyruntime.spec.check` gives the same verdict on config.json a hundred times faster. jsonschema judges by the
schema as it is written, and it knows the state and features documents, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from pyruntime.spec.problem import bad_text

# Beside the package, in a checkout as well as in what `make install` makes.
# Beside the package in a checkout and where `make install` puts it, in the package where pip does.
_PLACES = [Path(__file__).resolve().parents[up] / "oci-spec" for up in (2, 1)]
DIRECTORY = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def read(name: str) -> dict[str, Any]:
    """Return the schema `name`: "config", "state" or "features"."""
    schema: dict[str, Any] = json.loads((DIRECTORY / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def validator(name: str) -> Any:
    """Return a jsonschema validator for the schema `name`."""
    return Validator(read(name))


def _is_whole(_checker: object, value: object) -> bool:
    # JSON Schema takes 1.0 for an integer; Go, which engines and most runtimes are written in, does not.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(_checker: object, value: object) -> bool:
    return isinstance(value, str) and bad_text(value) is None


def _pattern(_validator: object, pattern: str, value: object, _schema: object) -> Any:
    """Yield the keyword `pattern`, in which $ is the very end (ECMA 262), not the end or the line break there."""
    import re

    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Base = jsonschema.Draft202012Validator
Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    _Base,
    validators={"pattern": _pattern},
    type_checker=_Base.TYPE_CHECKER.redefine_many({"integer": _is_whole, "string": _is_text}),
)

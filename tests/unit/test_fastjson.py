"""pyruntime.util.fastjson against json: the same values, the same refusals, the same text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyruntime.util import fastjson

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "tests" / "data" / "configs").glob("*.json"))

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
# Text made of pieces of JSON is nearly JSON, which is where a scanner can go wrong.
PIECES = ["\n", " ", "\t", "\x00", "\ufeff", "\u00a0", '"a"', '"b":', "\\", "\\u00", "\\ud83d", "é"]
PIECES += '{ } [ ] , : " 1 - 0 1.5 1e3 1e999 . true null nul NaN Infinity -Infinity'.split()
nearly_json = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def strict(text: str) -> object:
    """json's answer, with its own extension (NaN, Infinity) taken away."""

    def refuse(word: str) -> object:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_reads_and_writes_the_corpus_as_json_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    value = json.loads(text)
    assert fastjson.loads(text) == value
    assert fastjson.dumps(value) == json.dumps(value, separators=(",", ":"))
    assert fastjson.dumps(value, indent=2) == json.dumps(value, indent=2)


@given(values)
def test_writes_what_json_writes(value: object) -> None:
    assert fastjson.dumps(value) == json.dumps(value, separators=(",", ":"))
    assert fastjson.dumps(value, indent=3) == json.dumps(value, indent=3)
    assert fastjson.loads(fastjson.dumps(value)) == value


@given(nearly_json)
def test_accepts_and_refuses_what_json_does(text: str) -> None:
    try:
        expected = strict(text)
    except ValueError:
        with pytest.raises(json.JSONDecodeError):
            fastjson.loads(text)
    else:
        assert fastjson.loads(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("  \n ", 2, 2),
        ('{"a": 1} x', 1, 10),
        ('{"a": 1,}', 1, 8),
        ("[1 ,\n ]", 1, 4),
        ("[1,,2]", 1, 4),
        ('{"a" 1}', 1, 6),
        ('{\n "a": tru\n}', 2, 7),
        ('{"a": "NaN",\n "b": NaN}', 2, 7),
        ("[1, -Infinity]", 1, 5),
        ("\ufeff{}", 1, 1),
        ('["a\nb"]', 1, 4),
        ("[" * 200_000, 1, 1),
        ("[1, " + "9" * 10_000 + "]", 1, 5),
    ],
)
def test_an_error_says_where(text: str, line: int, column: int) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        fastjson.loads(text)
    assert (caught.value.lineno, caught.value.colno) == (line, column)


def test_the_last_of_duplicate_keys_wins() -> None:
    assert fastjson.loads(' {"a": 1, "a": 2}\r\n') == {"a": 2}


def test_keys_that_are_not_strings_are_spelt_as_json_spells_them() -> None:
    value = {1: "a", None: "b", False: "c", 1.5: {2: []}}
    assert fastjson.dumps(value, indent=2) == json.dumps(value, indent=2)


@pytest.mark.parametrize("indent", [None, 2])
def test_refuses_to_write_what_json_has_no_word_for(indent: int | None) -> None:
    with pytest.raises(TypeError):
        fastjson.dumps({"a": [b"bytes"]}, indent=indent)
    with pytest.raises(ValueError, match="range|compliant"):
        fastjson.dumps({"a": [float("nan")]}, indent=indent)


def test_works_without_the_c_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastjson, "_fast", None)
    assert fastjson.loads(' {"a": [1, "é"]} ') == {"a": [1, "é"]}
    assert fastjson.dumps({"a": [1, "é"]}) == '{"a":[1,"\\u00e9"]}'
    assert fastjson.dumps({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'
    with pytest.raises(json.JSONDecodeError):
        fastjson.loads("[NaN]")


def test_neither_way_imports_json() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pyruntime.util import fastjson;"
        "fastjson.dumps(fastjson.loads('[1, {}]'), indent=1);"
        "sys.exit(' '.join({'json', 're', 'enum', 'typing'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

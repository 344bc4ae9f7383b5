"""pyruntime.spec.load: what a bundle's config.json can do to its reader."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyruntime.errors import ConfigError
from pyruntime.spec import load

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "data" / "configs").glob("*.json"))


def bundle_with(directory: Path, content: bytes) -> str:
    (directory / "config.json").write_bytes(content)
    return str(directory)


def refusal(bundle: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load.load_config(bundle)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_corpus_is_read_as_json_reads_it(path: Path, tmp_path: Path) -> None:
    assert load.load_config(bundle_with(tmp_path, path.read_bytes())) == json.loads(path.read_bytes())


def test_the_bundle_may_be_relative_or_end_in_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_with(tmp_path, b"{}")
    assert load.load_config(bundle + "/") == {}
    monkeypatch.chdir(tmp_path)
    assert load.load_config(".") == load.load_config("") == {}


def test_members_that_are_null_are_left_out(tmp_path: Path) -> None:
    content = b'{"hooks": null, "a": {"b": null, "c": [null, {"d": null}]}, "e": "null"}'
    expected = {"a": {"c": [None, {}]}, "e": "null"}
    assert load.load_config(bundle_with(tmp_path, content)) == expected


@pytest.mark.parametrize("depth", [300, 400, 500, 600, 700, 800, 900, 1000, 10_000])
def test_deep_nesting_is_read_or_refused(depth: int, tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, b'{"a":' * depth + b"null" + b"}" * depth)
    try:
        load.load_config(bundle)
    except ConfigError as error:
        assert "nested too deeply" in str(error)


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (b"", "line 1, column 1", "the file is empty; `pyruntime spec`"),
        (b" \n ", "line 2, column 2", "the file is empty"),
        (b'{\n "a": 1,\n}', "line 2, column 8", "take it away"),
        (b'{\n "a": [1,]\n}', "line 2, column 9", "JSON has no comma after the last item"),
        (b'{\n // hi\n "a": 1}', "line 2, column 2", "JSON has no comments"),
        (b"{'a': 1}", "line 1, column 2", "double quotes"),
        (b'{"a": 1} {', "line 1, column 10", "extra data"),
        (b'{"a": NaN}', "line 1, column 7", "NaN is not a JSON value"),
        (b'\xef\xbb\xbf{"a": 1}', "line 1, column 1", "without one"),
        (b'{"a":\n "\xc3\xa9\xff"}', "line 2, column 4", "byte 0xff is not UTF-8"),
        (b'{"a": "\x01"}', "line 1, column 8", "control character U+0001 in a string; write it as \\u0001"),
        (b'{"a": "x\ty"}', "line 1, column 9", "control character U+0009 in a string; write it as \\t"),
        (b'{"a": ' + b"1" * 5000 + b"}", "line 1, column 7", "the number has too many digits"),
        (b'{"a": 1 "b": 2}', "line 1, column 9", "expected a comma or the end"),
        (b'{"a": "x', "line 1, column 7", "the string that begins here has no end"),
        (b'{"a": "\\q"}', "line 1, column 8", "invalid escape in a string"),
        (b'{"a": }', "line 1, column 7", "expected a value"),
        (b'{"a" 1}', "line 1, column 6", "expected a colon after the member name"),
        (b"[" * 100_000, "line 1, column 1", "nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(content: bytes, where: str, words: str, tmp_path: Path) -> None:
    line = refusal(bundle_with(tmp_path, content))
    assert line.startswith(f"{tmp_path}/config.json: {where}")
    assert words in line


@pytest.mark.parametrize(
    ("content", "kind"), [(b"[]", "an array"), (b'"x"', "a string"), (b"null", "null"), (b"17", "only 17")]
)
def test_the_top_level_must_be_an_object(content: bytes, kind: str, tmp_path: Path) -> None:
    assert refusal(bundle_with(tmp_path, content)).endswith(f"must hold a JSON object, {{…}}, holds {kind}")


def test_no_bundle_and_no_config_are_told_apart(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)).startswith(
        f"{tmp_path}/config.json: no such file or directory: the bundle has no config.json; "
    )
    assert f": the bundle {tmp_path}/nosuch does not exist; " in refusal(f"{tmp_path}/nosuch")
    assert "not a path" in refusal("a\0b")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert refusal(str(tmp_path)) == f"{tmp_path}/config.json: is a directory"
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")
    assert refusal(str(tmp_path)) == f"{tmp_path}/config.json: is not a regular file"
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to("config.json")
    assert "symbolic links" in refusal(str(tmp_path))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, b"{}")
    os.truncate(tmp_path / "config.json", load.MAXIMUM_SIZE + 1)
    assert refusal(bundle) == f"{tmp_path}/config.json: is larger than 32 MiB"


def test_a_file_without_a_size_is_read_to_its_end() -> None:
    # Files of /proc say that they hold 0 bytes.
    with pytest.raises(ConfigError, match="line 1, column 1"):
        load.load_object("/proc/self/status")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, b"{}")
    (tmp_path / "config.json").chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root reads everything
    try:
        line = refusal(bundle)
    finally:
        os.seteuid(me)
    assert line.startswith(f"{tmp_path}/config.json: permission denied; it must be readable")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for content in (b"{}", b"[", b"\xff"):
        bundle = bundle_with(tmp_path, content)
        try:
            load.load_config(bundle)
        except ConfigError:
            pass
    refusal("/proc")
    assert os.listdir("/proc/self/fd") == before

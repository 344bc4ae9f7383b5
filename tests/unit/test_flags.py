"""Command lines as Go programs take them: what engines write must be read the same way."""

from __future__ import annotations

from typing import Any

import pytest

from pyruntime.cli import main
from pyruntime.cli.flags import Flag, number, parse
from pyruntime.errors import UsageError

FLAGS = (
    Flag("bundle", "", short="b", value="DIR"),
    Flag("force", "", short="f"),
    Flag("env", "", short="e", value="NAME=VALUE", many=True),
    Flag("format", "", value="FORMAT", default="table"),
)
NOTHING: dict[str, Any] = {"bundle": "", "force": False, "env": [], "format": "table", "help": False}


@pytest.mark.parametrize(
    ("arguments", "values", "rest"),
    [
        ([], {}, []),
        (["--bundle", "/b", "id"], {"bundle": "/b"}, ["id"]),
        (["--bundle=/b", "id"], {"bundle": "/b"}, ["id"]),
        (["-bundle=/b"], {"bundle": "/b"}, []),
        (["-b", "/b"], {"bundle": "/b"}, []),
        (["-b=/b"], {"bundle": "/b"}, []),
        (["--bundle="], {"bundle": ""}, []),
        (["--bundle", ""], {"bundle": ""}, []),
        (["--bundle=a=b"], {"bundle": "a=b"}, []),
        (["--bundle", "--force"], {"bundle": "--force"}, []),
        (["--bundle", "a", "--bundle", "b"], {"bundle": "b"}, []),
        (["--force", "id"], {"force": True}, ["id"]),
        (["--force=true"], {"force": True}, []),
        (["--force=false"], {"force": False}, []),
        (["--force", "--force=0"], {"force": False}, []),
        (["-e", "A=1", "--env=B=2", "-e", "C"], {"env": ["A=1", "B=2", "C"]}, []),
        (["id", "--force"], {}, ["id", "--force"]),
        (["--", "--force"], {}, ["--force"]),
        (["-", "--force"], {}, ["-", "--force"]),
        (["-h"], {"help": True}, []),
        (["--help"], {"help": True}, []),
    ],
)
def test_flags(arguments: list[str], values: dict[str, Any], rest: list[str]) -> None:
    assert parse(arguments, FLAGS) == ({**NOTHING, **values}, rest)


@pytest.mark.parametrize(
    ("arguments", "values", "rest"),
    [
        (["id", "--force"], {"force": True}, ["id"]),
        (["id", "-b", "/b", "KILL"], {"bundle": "/b"}, ["id", "KILL"]),
        (["id", "--", "--force"], {}, ["id", "--force"]),
    ],
)
def test_flags_after_words(arguments: list[str], values: dict[str, Any], rest: list[str]) -> None:
    assert parse(arguments, FLAGS, mixed=True) == ({**NOTHING, **values}, rest)


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["--nosuch"], "flag provided but not defined: --nosuch", "see --help"),
        (["--nosuch=value"], "not defined: --nosuch;", "see --help"),
        (["--bundel", "/b"], "not defined: --bundel", "did you mean --bundle?"),
        (["--bundle"], "flag needs an argument: --bundle", None),
        (["-b"], "flag needs an argument: -b", None),
        (["--force=maybe"], "invalid boolean value: --force=maybe", "give true or false"),
        (["-fb"], "not defined: -fb", None),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, hint: str | None) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(arguments, FLAGS)
    if hint is not None:
        assert caught.value.hint == hint


def test_defaults_are_not_shared() -> None:
    first, _ = parse(["-e", "A=1"], FLAGS)
    second, _ = parse([], FLAGS)
    assert first["env"] == ["A=1"]
    assert second["env"] == []


@pytest.mark.parametrize(("text", "value"), [("", 0), ("0", 0), ("3", 3)])
def test_numbers(text: str, value: int) -> None:
    assert number(text, "preserve-fds") == value


@pytest.mark.parametrize("text", ["x", "1.5", "3 4"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="--preserve-fds: .* is not a number"):
        number(text, "preserve-fds")


def test_containerds_command_line() -> None:
    """As its shim writes it, global flags first."""
    line = "--root /run/c --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p id"
    values, rest = parse(line.split(), main.GLOBAL)
    assert (values["root"], values["log"], values["log-format"]) == ("/run/c", "/b/log.json", "json")
    assert values["systemd-cgroup"] is True
    assert rest == ["create", "--bundle", "/b", "--pid-file", "/p", "id"]


@pytest.mark.parametrize("command", ["create", "start", "run", "state", "list", "kill", "delete", "spec", "features"])
def test_every_command_has_a_module_that_says_how_to_use_it(command: str) -> None:
    module = __import__(f"pyruntime.cli.{command}", None, None, ("FLAGS",))
    assert command in main.COMMANDS
    assert isinstance(module.USAGE, str)
    assert callable(module.run)
    names = [name for flag in module.FLAGS for name in (flag.name, flag.short) if name]
    assert len(names) == len(set(names))
    assert not {"help", "h"} & set(names)
    for flag in module.FLAGS:
        assert flag.help and not flag.help.endswith(".")

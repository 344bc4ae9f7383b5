"""explain and validate: readers of the plan and of the check, without root and without a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.command_line import command, pyruntime
from support.planning import config

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((CHECKOUT / "tests/data/configs").glob("*.json"))


def bundle(tmp_path: Path, content: dict[str, Any]) -> str:
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


@pytest.mark.parametrize("path", CONFIGS[::4], ids=lambda path: path.stem)
def test_what_engines_wrote_is_explained(tmp_path: Path, path: Path) -> None:
    result = pyruntime("explain", "--format", "json", bundle(tmp_path, json.loads(path.read_text())))
    assert result.returncode == 0, result.stderr
    steps = json.loads(result.stdout)
    assert {step["actor"] for step in steps} >= {"parent", "init"}
    assert all(step["does"] and "{" not in step["step"] for step in steps)
    assert steps[-1]["step"] == "program.execute" or path.stem.startswith("docker")


def test_explain_in_words(tmp_path: Path) -> None:
    mine = config()
    mine["linux"] = {"namespaces": [{"type": "mount"}]}
    mine["hooks"] = {"poststop": [{"path": "/bin/true"}]}
    result = pyruntime("explain", bundle(tmp_path, mine))
    assert "init: into the new root\n" in result.stdout
    assert "/root/path" in result.stdout and "pivot_root(2) into the rootfs" in result.stdout
    assert result.stdout.rstrip().endswith("run the poststop hook 0: /bin/true")


def test_explain_refuses_what_create_refuses(tmp_path: Path) -> None:
    mine = config()
    del mine["root"]
    result = pyruntime("explain", bundle(tmp_path, mine))
    assert result.returncode == 1
    assert "/root" in result.stderr


def two(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Two bundles, in directories of their own."""
    for name, content in (("one", first), ("two", second)):
        (tmp_path / name).mkdir()
        bundle(tmp_path / name, content)
    return [f"{tmp_path}/one", f"{tmp_path}/two"]


def differences(where: list[str]) -> list[tuple[str, str | None, str | None]]:
    result = pyruntime("explain", "--diff", "--format", "json", *where)
    assert result.returncode in (0, 2), result.stderr
    found = json.loads(result.stdout)["differences"]
    assert bool(found) == (result.returncode == 2)
    return [(one["change"], *one["fields"]) for one in found]


def test_the_same_plan_in_two_bundles_does_not_differ(tmp_path: Path) -> None:
    assert differences(two(tmp_path, config(), config())) == []


def test_the_steps_that_differ_with_their_fields(tmp_path: Path) -> None:
    first, second = config(), config()
    shm, run = ({"destination": place, "type": "tmpfs", "source": "tmpfs"} for place in ("/dev/shm", "/run"))
    first |= {"hostname": "a", "mounts": [shm, run]}
    second |= {"hostname": "b", "mounts": [{"destination": "/new", "type": "tmpfs", "source": "tmpfs"}, run, shm]}
    kinds = ["mount", "uts", "ipc"]
    first["linux"] = {"namespaces": [{"type": kind} for kind in kinds], "maskedPaths": ["/proc/kcore"]}
    second["linux"] = {"namespaces": [{"type": kind} for kind in kinds[:2]]}
    second["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    found = differences(two(tmp_path, first, second))
    assert ("changed", "/linux/namespaces", "/linux/namespaces") in found
    assert ("added", None, "/mounts/0") in found
    assert [one for one in found if one[0] == "moved"] in (
        [("moved", "/mounts/0", "/mounts/2")],
        [("moved", "/mounts/1", "/mounts/1")],
    )
    assert ("removed", "/linux/maskedPaths/0", None) in found
    assert ("changed", "/hostname", "/hostname") in found
    assert ("added", None, "/process/rlimits/0") in found
    assert len(found) == 6
    text = pyruntime("explain", "--diff", f"{tmp_path}/one", f"{tmp_path}/two").stdout
    assert '"a" -> "b"' in text
    assert "ipc: new -> ipc: host" in text


def test_a_diff_takes_two(tmp_path: Path) -> None:
    result = pyruntime("explain", "--diff", bundle(tmp_path, config()))
    assert result.returncode == 1
    assert "two bundles" in result.stderr


def test_valid() -> None:
    result = pyruntime("validate", "--no-host", "-", input=json.dumps(config()))
    assert (result.returncode, result.stdout) == (0, "config.json is valid\n")


def test_everything_at_once() -> None:
    mine = config()
    mine["process"]["args"] = "sh"
    mine["process"]["cwd"] = "here"
    mine["linux"] = {"rootPropagation": "shared"}
    result = pyruntime("validate", "--format", "json", "-", input=json.dumps(mine))
    assert result.returncode == 1
    found = {one["pointer"]: one for one in json.loads(result.stdout)}
    assert found["/process/args"]["severity"] == found["/process/cwd"]["severity"] == "error"
    assert found["/linux/rootPropagation"]["severity"] == "warning"
    assert "rootfsPropagation" in found["/linux/rootPropagation"]["hint"]


def test_what_only_the_plan_can_know(tmp_path: Path) -> None:
    mine = config()
    mine["mounts"] = [{"destination": "/data", "type": "bind"}]
    result = pyruntime("validate", bundle(tmp_path, mine))
    assert result.returncode == 1
    assert "/mounts/" in result.stdout and "/source: is required and missing" in result.stdout


def test_annotations_for_ci_systems() -> None:
    result = pyruntime("validate", "--format=github", "-", input='{"ociVersion": "2.0.0"}')
    assert result.returncode == 1
    assert result.stdout.startswith("::error file=config.json,line=1,col=2,title=pyruntime schema::/ociVersion: ")


def test_no_json() -> None:
    result = pyruntime("validate", "-", input="{")
    assert result.returncode == 1
    assert "standard input: line 1, column 2" in result.stdout


class Page(HTMLParser):
    """Collects what a page is made of."""

    VOID = ("meta", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


@pytest.mark.parametrize("path", CONFIGS[::6], ids=lambda path: path.stem)
def test_the_page_has_every_step_and_needs_nothing(tmp_path: Path, path: Path) -> None:
    where = bundle(tmp_path, json.loads(path.read_text()))
    steps = json.loads(pyruntime("explain", "--format", "json", where).stdout)
    result = pyruntime("explain", "--format", "html", where)
    page = Page(result.stdout)
    assert page.open == []
    assert page.links == [] and not set(page.tags) & {"script", "link", "img", "iframe"}
    assert "url(" not in result.stdout and "@import" not in result.stdout
    assert page.tags.count("li") == len(steps) + len(result.stderr.splitlines())
    text = "".join(page.words)
    for step in steps:
        assert step["field"] in page.words or not step["field"]
        assert step["does"][:100].strip() in text


def test_the_page_is_safe_to_open(tmp_path: Path) -> None:
    """Names are the bundle's author's, and the reader's browser runs what it takes for a script."""
    mine = config()
    mine["process"]["args"] = ["<script>alert(1)</script>"]
    mine["mounts"] = [{"destination": '/"><img src=x>', "type": "tmpfs", "source": "none"}]
    page = Page(pyruntime("explain", "--format", "html", bundle(tmp_path, mine)).stdout)
    assert not set(page.tags) & {"script", "img"}
    assert any("<script>" in words for words in page.words)


def test_a_file_is_validated_by_its_path(tmp_path: Path) -> None:
    mine = config()
    mine["hostname"] = "a" * 65
    folder = bundle(tmp_path, mine)
    result = pyruntime("validate", "--format=github", f"{folder}/config.json")
    assert result.returncode == 1
    assert f"file={folder}/config.json,line=" in result.stdout
    assert pyruntime("validate", f"{folder}/config.json").stdout == pyruntime("validate", folder).stdout
    (Path(folder) / "config.json").rename(tmp_path / "other.json")
    assert "65 bytes" in pyruntime("validate", str(tmp_path / "other.json")).stdout


def test_no_flag_is_recommended_that_the_command_lacks() -> None:
    for name in ("explain", "validate"):
        result = pyruntime(name, "/nonexistent")
        assert result.returncode == 1
        assert "--bundle" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["list", "--help"], ["features"], ["list"], ["completion", "bash"]]
)
def test_a_reader_that_has_gone_ends_a_command_quietly(words: list[str]) -> None:
    """By SIGPIPE, like runc, crun and every other program; `| head` must not draw an error."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = subprocess.run(command(*words), stdout=write_end, stderr=subprocess.PIPE, cwd=CHECKOUT)
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")

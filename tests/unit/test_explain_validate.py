"""explain and validate: readers of the plan and of the check, without root and without a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import pyruntime
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
    assert "rootfsPropagation" in found["/linux/rootPropagation"]["mend"]


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

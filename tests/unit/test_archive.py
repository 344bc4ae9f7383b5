"""The archive: the same modules as from their own files, and never an old one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MAKE = CHECKOUT / "tools/make-archive.py"

# As the launcher starts it; says where each module came from.
START = """
import sys, posix, marshal
tree, archive, *names = sys.argv[1:]
sys.path[:0] = tree,
with open(archive, "rb") as file:
    code, index = marshal.loads(file.read()[4:])
module = type(sys)("pyruntime.boot.archive")
exec(code, module.__dict__)
module.install(archive, index)
for name in names:
    __import__(name)
    loaded = sys.modules[name]
    path = getattr(loaded, "__path__", ())
    print(type(loaded.__loader__).__name__, loaded.__file__, *path, getattr(loaded, "value", ""))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "pyruntime/cli").mkdir(parents=True)
    (tree / "pyruntime/__init__.py").touch()
    (tree / "pyruntime/cli/__init__.py").write_text("value = 'package'")
    (tree / "pyruntime/cli/main.py").write_text("from . import value as outer\nvalue = outer + ' 1'")
    (tree / "pyruntime/boot").mkdir()
    (tree / "pyruntime/boot/__init__.py").touch()
    shutil.copy(CHECKOUT / "pyruntime/boot/archive.py", tree / "pyruntime/boot")
    return tree


def make(tree: Path, *library: Path) -> Path:
    output = tree.parent / "archive"
    subprocess.run([sys.executable, MAKE, output, tree, tree, *library], check=True)
    return output


def start(tree: Path, archive: Path, *names: str) -> list[str]:
    command = [sys.executable, "-I", "-S", "-c", START, tree, archive, *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_modules_come_from_the_archive_and_know_their_files(tree: Path) -> None:
    cli = tree / "pyruntime/cli"
    assert start(tree, make(tree), "pyruntime.cli", "pyruntime.cli.main") == [
        f"Archive {cli}/__init__.py {cli} package",
        f"Archive {cli}/main.py package 1",
    ]


def test_a_changed_source_is_what_runs(tree: Path) -> None:
    archive = make(tree)
    main = tree / "pyruntime/cli/main.py"
    main.write_text("value = 'changed'")
    assert start(tree, archive, "pyruntime.cli.main") == [f"SourceFileLoader {main} changed"]
    make(tree)
    assert start(tree, archive, "pyruntime.cli.main") == [f"Archive {main} changed"]


def test_a_source_of_the_same_size_is_told_by_its_time(tree: Path) -> None:
    archive = make(tree)
    main = tree / "pyruntime/cli/main.py"
    text = main.read_text()
    main.write_text(text.replace("1", "2"))
    os.utime(main, ns=(1, 1))
    assert start(tree, archive, "pyruntime.cli.main") == [f"SourceFileLoader {main} package 2"]


def test_a_removed_source_is_not_run(tree: Path) -> None:
    archive = make(tree)
    (tree / "pyruntime/cli/main.py").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        start(tree, archive, "pyruntime.cli.main")


def test_a_new_source_is_found_beside_the_archive(tree: Path) -> None:
    archive = make(tree)
    new = tree / "pyruntime/cli/new.py"
    new.write_text("value = 'new'")
    assert start(tree, archive, "pyruntime.cli.new") == [f"SourceFileLoader {new} new"]


def test_an_installed_archive_needs_no_sources(tree: Path) -> None:
    archive = make(tree, Path("/installed/lib"))
    shutil.rmtree(tree)
    expected = "Archive /installed/lib/pyruntime/cli/main.py package 1"
    assert start(tree, archive, "pyruntime.cli.main") == [expected]


def test_an_up_to_date_archive_is_left_alone(tree: Path) -> None:
    before = make(tree).stat()
    assert make(tree).stat().st_ino == before.st_ino
    (tree / "pyruntime/cli/new.py").touch()
    assert make(tree).stat().st_ino != before.st_ino


# Replaces the archive between the first import and the second.
UPDATE = START.replace(
    "for name in names:",
    """for name in names:
    if name == "pyruntime.cli.main":
        import os
        os.replace(archive + ".next", archive)""",
)


def test_an_archive_that_is_replaced_meanwhile(tree: Path) -> None:
    """As by an update: what stood at a place is elsewhere now, and the source is what runs."""
    main = tree / "pyruntime/cli/main.py"
    (tree / "pyruntime/aaa.py").write_text("value = " + repr("x" * 5000))
    make(tree, tree).rename(tree.parent / "archive.next")
    (tree / "pyruntime/aaa.py").unlink()
    archive = make(tree, tree)
    command = [sys.executable, "-I", "-S", "-c", UPDATE, tree, archive, "pyruntime.cli", "pyruntime.cli.main"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[1].startswith(f"Archive {main}") and lines[1].endswith("package 1")


def test_a_traceback_shows_the_source(tree: Path) -> None:
    (tree / "pyruntime/cli/main.py").write_text("\n\nraise RuntimeError('a reason')")
    command = [sys.executable, "-I", "-S", "-c", START, tree, make(tree), "pyruntime.cli.main"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert f'File "{tree}/pyruntime/cli/main.py", line 3' in result.stderr
    assert "raise RuntimeError('a reason')" in result.stderr


def test_extension_modules_are_named(tree: Path) -> None:
    name = "_cffi_backend"
    file = Path(__import__(name).__file__)
    shutil.copy(file, tree)
    assert start(tree, make(tree), name) == [f"ExtensionFileLoader {tree / file.name} "]

"""The order of the tests is random, and can be repeated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import order

TESTS = Path(__file__).parents[1]
NAMES = [f"{folder}/test_{module}.py::test_{number}" for folder in "ab" for module in "xyz" for number in range(5)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two directories of three modules of five tests each, with the plugin."""
    for name in NAMES:
        file, _, test = name.partition("::")
        (tmp_path / file).parent.mkdir(exist_ok=True)
        with (tmp_path / file).open("a") as module:
            module.write(f"def {test}():\n    pass\n")
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nfrom support import order\n"
        "order.KEPT = {'kept': 'why'}\n"
        "def pytest_addoption(parser):\n    order.add_option(parser)\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(order.Order(config.getoption('order')))\n"
    )
    return tmp_path


def run(project: Path, *words: str) -> tuple[list[str], str]:
    """Run the project's tests: (their names in the order that they ran in, what pytest writes)."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--import-mode=importlib"]
    command += ["--rootdir", str(project), *words, str(project)]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    return re.findall(r"^(\S+::\S+) PASSED", result.stdout, re.M), result.stdout + result.stderr


def test_the_seed_that_is_named_repeats_the_order(project: Path) -> None:
    names, output = run(project)
    found = re.search(r"^order of the tests: random; --order (\d+) repeats it$", output, re.M)
    assert found, output
    assert sorted(names) == NAMES
    assert run(project, "--order", found[1])[0] == names


def test_seeds_differ_in_modules_and_tests(project: Path) -> None:
    """Directories keep their order, and the tests of a module stay together."""
    orders = [run(project, "--order", seed)[0] for seed in ("1", "2")]
    assert orders[0] != orders[1]
    for names in orders:
        assert sorted(names) == NAMES
        assert [name[0] for name in names] == ["a"] * 15 + ["b"] * 15
        assert all(len({name.partition("::")[0] for name in names[at : at + 5]}) == 1 for at in range(0, 30, 5))
    modules = [[name.partition("::")[0] for name in names[::5]] for names in orders]
    assert modules[0] != modules[1]


def test_the_order_of_the_files(project: Path) -> None:
    names, output = run(project, "--order", "file")
    assert names == NAMES
    assert "order of the tests: that of the files\n" in output


def test_a_directory_that_keeps_its_order(project: Path) -> None:
    (project / "a").rename(project / "kept")
    names = run(project, "--order", "1")[0]
    assert [name.replace("kept/", "a/") for name in names if name.startswith("kept/")] == NAMES[:15]
    assert [name for name in names if name.startswith("b/")] != NAMES[15:]


@pytest.mark.parametrize("wanted", ["x", "-1", "1.5", "²"])
def test_a_wrong_seed_is_refused(project: Path, wanted: str) -> None:
    assert f"--order: {wanted!r} is neither a seed nor `file`" in run(project, f"--order={wanted}")[1]


@pytest.mark.parametrize("folder", order.KEPT)
def test_directories_that_keep_their_order_exist(folder: str) -> None:
    assert (TESTS.parent / folder).is_dir()

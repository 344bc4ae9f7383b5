"""The snapshot's objects: those that containers use lie side by side (pyruntime/placement.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath("/usr/bin/python3")
NOBODY = 65534

pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="native/snapshot.c is not written for this architecture"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root learns which pages were copied"),
    pytest.mark.ours,
]


def make(output: Path, **who: Any) -> str:
    """Write a snapshot as `make build` does: what was said about it."""
    site = sysconfig.get_paths()["platlib"]
    command = [sys.executable, CHECKOUT / "tools/make-snapshot.py", output, PYTHON]
    command += [CHECKOUT / "build/pyruntime.archive", CHECKOUT, site]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, **who)
    assert result.returncode == 0, result.stderr
    return result.stderr


def faults(snapshot: Path, bundle: Path, id: str) -> int:
    """Page faults of `run`, and of the container that it reaps."""
    pid = os.posix_spawn(snapshot, [str(snapshot), "run", "--bundle", str(bundle), id], {})
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_minflt


def test_containers_copy_fewer_pages(container):
    """An ordinary user gets a snapshot, too, but one that is not arranged."""
    box = container(["/bin/true"])
    box.bundle.save()
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, NOBODY, NOBODY)
        arranged, as_it_comes = Path(directory, "arranged"), Path(directory, "as-it-comes")
        assert make(arranged) == ""
        make(as_it_comes, user=NOBODY, group=NOBODY, extra_groups=[])
        few, many = (
            min(faults(file, box.bundle.path, f"{box.id}-{turn}") for turn in range(3))
            for file in (arranged, as_it_comes)
        )
    assert few < 0.8 * many

"""dockerd and our own shim: the tests of the other route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import proc

from engines import command, daemon
from engines.candidate import Candidate
from engines.docker import Docker
from engines.test_docker import *  # noqa: F403  # the same tests

if not daemon.missing(("dockerd",)):
    VERSION = command.run(["dockerd", "--version"]).stdout.split()[2].rstrip(",")
    if int(VERSION.partition(".")[0]) < 23:
        pytest.skip(f"docker {VERSION} knows runtimes by path only", allow_module_level=True)


@pytest.fixture(scope="module")
def shim_docker(candidate: Candidate, folder: Path, archive: Path) -> Iterator[Docker]:
    """A dockerd whose default runtime is our shim, with the image in it."""
    made = Docker(folder / f"docker-shim-{candidate.name}", candidate, shim=True)
    try:
        made.start()
        made.load(archive)
        yield made
    finally:
        made.stop()


@pytest.fixture
def engine(shim_docker: Docker) -> Iterator[Docker]:
    """That docker; a test's containers are removed after it."""
    yield shim_docker
    shim_docker.remove_all()


def test_shim(engine):
    """run -d: init is our shim's child"""
    name = engine.run_detached()
    assert "shim" in proc.read(proc.parent(engine.state(name)["Pid"]), "cmdline")
    assert engine.inspect(name)["HostConfig"]["Runtime"] == "candidate"

"""Fixtures of the tier that runs real programs of Debian's packages: `make test-programs`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from linux.conftest import base, bundle, container, executable, machine, mark_items, runtime, scratch
from support.bundle import PASSWD

from programs import packages

__all__ = ["base", "bundle", "container", "executable", "machine", "runtime", "scratch"]

HERE = Path(__file__).parent
POSTGRES_PROGRAMS = "/usr/lib/postgresql/15/bin"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this tier's tests as those of the root tier are."""
    mark_items(items, HERE)


@pytest.fixture(scope="session")
def debian(scratch: Path) -> Path:
    """A root filesystem of the files of Debian's packages."""
    root = scratch / "debian"
    try:
        packages.unpack(root, ["nginx", "redis-server", "postgresql-15", "python3"])
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Debian's packages cannot be had: {error}")
    (root / "etc/passwd").write_text(PASSWD + "www-data:x:33:33::/var/www:/bin/sh\npostgres:x:101:101::/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nwww-data:x:33:\npostgres:x:101:\n")
    return root

"""CVE-2022-29162 (runc to 1.1.1), CVE-2022-27650 (crun to 1.4.3), CVE-2025-27612 (youki): `exec --cap` made the
capability inheritable, so that a program with file capabilities gave it to users without any."""

from __future__ import annotations

import json

import pytest
from support import proc

NUMBER = 12  # CAP_NET_ADMIN (capability.h)
INHERITABLE = """
def add(sets, names):
    kinds = ["bounding", "effective", "permitted", "inheritable", "ambient"]
    return {**sets, **{kind: [*(sets.get(kind) or ()), *names] for kind in kinds}}
replace("commands.exec._add_capabilities", add)
"""


def capabilities(box, *flags: str, command: tuple[str, ...] = ("cat", "/proc/self/status")) -> dict[str, int]:
    """The sets of a process that exec runs, as bit masks."""
    result = box.runtime.run("exec", *flags, box.id, *command)
    status = proc.parse_status(result.stdout)
    return {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def running(container):
    return container(["/bin/sleep", "100"])


def started(box):
    box.create()
    box.start()
    return box


def test_exec_cap_is_not_inheritable(container):
    found = capabilities(started(running(container)), "--cap", "CAP_NET_ADMIN")
    assert found["CapInh"] == 0
    assert found["CapAmb"] == 0
    assert found["CapEff"] >> NUMBER & 1
    assert found["CapPrm"] >> NUMBER & 1


def test_exec_cap_of_an_ordinary_user(container):
    """No set but the bounding one is left after the user has changed."""
    found = capabilities(started(running(container)), "--cap", "CAP_NET_ADMIN", "--user", "1000:1000")
    assert found["CapInh"] == 0
    assert found["CapAmb"] == 0


def test_exec_without_cap(container):
    assert capabilities(started(running(container)))["CapInh"] == 0


def test_the_first_process(container):
    box = container(["/bin/cat", "/proc/self/status"])
    assert proc.parse_status(box.run().stdout)["CapInh"] == "0000000000000000"


def test_a_process_file_without_inheritable(container):
    box = started(running(container))
    process = {**box.process, "args": ["/bin/cat", "/proc/self/status"]}
    file = box.runtime.folder / "process.json"
    file.write_text(json.dumps(process))
    result = box.runtime.run("exec", "--process", str(file), box.id)
    assert proc.parse_status(result.stdout)["CapInh"] == "0000000000000000"


@pytest.mark.ours
def test_inheritable_is_caught(container, weakened):
    box = running(container)
    box.runtime = weakened(INHERITABLE)
    assert capabilities(started(box), "--cap", "CAP_NET_ADMIN")["CapInh"] == 1 << NUMBER

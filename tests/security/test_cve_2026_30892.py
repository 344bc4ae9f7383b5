"""CVE-2026-30892 (crun 1.19 to 1.26): `exec --user 1` was parsed as 0:0."""

from __future__ import annotations

import pytest

ZERO_FOR_NONSENSE = """
def parse(text, what):
    digits = text.strip()
    return int(digits) if digits.isdigit() and len(digits) > 1 else 0
replace("commands.exec._id", parse)
"""
GOOD = {"1": (1, 2000), "1:2": (1, 2), "0:0": (0, 0), "65534:65534": (65534, 65534), "01": (1, 2000), "01:02": (1, 2)}
BAD = ["+1x", "-1", "1x", "x", "root", "1:", ":1", "1:2:3", "1 ", " 1", "0x1", "1.0", "4294967295", "99999999999", "٣"]


def ids(box, *words: str):
    """uid and gid of a process that exec runs as --user says; None when that is refused."""
    result = box.runtime.run("exec", *words, box.id, "sh", "-c", "id -u; id -g", check=None)
    return tuple(int(word) for word in result.stdout.split()) if result.code == 0 else None


@pytest.fixture
def box(container):
    """Its own process is not root, so that root is never right by chance."""
    box = container(["/bin/sleep", "100"])
    box.process["user"] = {"uid": 2000, "gid": 2000}
    return box


def start(box):
    box.create()
    box.start()
    return box


@pytest.mark.parametrize("text", GOOD)
def test_ids(box, text):
    uid, gid = GOOD[text]
    found = ids(start(box), "--user", text)
    assert found is not None
    assert found[0] == uid
    # Without a gid: the container's own, or 0 of a group that the user is not in.
    assert found[1] == gid or (":" not in text and not box.runtime.is_ours)


@pytest.mark.differs(crun="crun 1.8.1 takes -1 and 4294967295 for 0:0, and 1: for 1:0")
def test_what_is_no_id_is_never_root(box):
    start(box)
    found = {text: ids(box, f"--user={text}") for text in BAD}
    assert {text: who for text, who in found.items() if who is not None and 0 in who} == {}
    if box.runtime.is_ours:
        assert {text: who for text, who in found.items() if who is not None} == {}


@pytest.mark.differs(crun="crun 1.8.1 takes it for 0:0")
def test_an_empty_user_is_the_containers(box):
    assert ids(start(box), "--user=") in ((2000, 2000), None)


@pytest.mark.ours
def test_root_for_nonsense_is_caught(box, weakened):
    box.runtime = weakened(ZERO_FOR_NONSENSE)
    start(box)
    assert ids(box, "--user", "1") == (0, 2000)
    assert ids(box, "--user=1x") == (0, 2000)

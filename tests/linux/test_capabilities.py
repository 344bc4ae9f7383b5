"""The five capability sets, as the kernel shows them in /proc/PID/status.

Source: runtime-spec config.md, "Linux Process"; capabilities(7).
"""

from __future__ import annotations

import pytest
from support import proc

NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_RESOURCE": 24,
    "CAP_AUDIT_WRITE": 29,
}
FIELDS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}


def names(mask: str) -> set[str]:
    """The capabilities of a mask; those that are not in NUMBERS by number."""
    known = {number: name for name, number in NUMBERS.items()}
    return {known.get(bit, str(bit)) for bit in range(64) if int(mask, 16) >> bit & 1}


def sets_of(box, uid: int = 0) -> dict[str, set[str]]:
    """The sets of the user's process after its execve."""
    box.process["user"] = {"uid": uid, "gid": uid}
    box.create()
    box.start()
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    status = box.process_status()
    return {name: names(status[field]) for name, field in FIELDS.items()}


@pytest.fixture
def sleeper(container):
    def make(**sets: list[str]):
        box = container(["/bin/sleep", "100"])
        box.process["capabilities"] = sets
        return box

    return make


def test_root_gets_its_bounding_set(sleeper):
    """capabilities(7), "Capabilities and execution of programs by root"."""
    wanted = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]
    seen = sets_of(sleeper(bounding=wanted, permitted=wanted, effective=wanted))
    assert seen["bounding"] == seen["permitted"] == seen["effective"] == set(wanted)
    assert seen["inheritable"] == seen["ambient"] == set()


def test_five_different_sets(sleeper):
    """Of an ordinary user, whose execve leaves the ambient set as permitted and effective."""
    seen = sets_of(
        sleeper(
            bounding=["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_FOWNER"],
            permitted=["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            inheritable=["CAP_CHOWN", "CAP_KILL"],
            effective=["CAP_CHOWN"],
            ambient=["CAP_KILL"],
        ),
        uid=1000,
    )
    assert seen == {
        "bounding": {"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_FOWNER"},
        "inheritable": {"CAP_CHOWN", "CAP_KILL"},
        "permitted": {"CAP_KILL"},
        "effective": {"CAP_KILL"},
        "ambient": {"CAP_KILL"},
    }


def test_the_sets_are_there_before_the_execve(sleeper):
    """Init that waits for start has the config's sets exactly: what it runs later cannot have more."""
    box = sleeper(
        bounding=["CAP_CHOWN", "CAP_KILL"],
        permitted=["CAP_CHOWN", "CAP_KILL"],
        effective=["CAP_KILL"],
        inheritable=["CAP_CHOWN"],
    )
    box.create()
    status = box.process_status()
    assert names(status["CapBnd"]) == {"CAP_CHOWN", "CAP_KILL"}
    assert names(status["CapPrm"]) == {"CAP_CHOWN", "CAP_KILL"}
    assert names(status["CapEff"]) == {"CAP_KILL"}
    assert names(status["CapInh"]) == {"CAP_CHOWN"}


@pytest.mark.parametrize("uid", [0, 1000])
def test_empty_sets(sleeper, uid):
    seen = sets_of(sleeper(bounding=[], permitted=[], effective=[], inheritable=[], ambient=[]), uid)
    assert not any(seen.values())


def test_they_are_obeyed(container):
    """Root without CAP_CHOWN may not chown; with it, it may."""
    every = ("bounding", "permitted", "effective")
    for wanted, code in (([], 1), (["CAP_CHOWN"], 0)):
        box = container(["/bin/chown", "5:5", "/tmp"])
        box.process["capabilities"] = dict.fromkeys(every, wanted)
        box.run(check=code)
    assert (box.rootfs / "tmp").stat().st_uid == 5


def test_ambient_lets_an_ordinary_user_act(container):
    box = container(["/bin/chown", "5:5", "/tmp"])
    box.process["user"] = {"uid": 1000, "gid": 1000}
    every = ("bounding", "permitted", "effective", "inheritable", "ambient")
    wanted = ["CAP_CHOWN"]
    box.process["capabilities"] = dict.fromkeys(every, wanted)
    box.run()
    assert (box.rootfs / "tmp").stat().st_uid == 5


def test_a_user_without_ambient_ones_has_none(sleeper):
    wanted = ["CAP_CHOWN", "CAP_KILL"]
    seen = sets_of(sleeper(bounding=wanted, permitted=wanted, effective=wanted), uid=1000)
    assert seen["permitted"] == seen["effective"] == set()
    assert seen["bounding"] == set(wanted)


@pytest.mark.differs(
    runc="runc 1.1.5 fails when this machine lacks one", crun="crun 1.8.1 fails when this machine lacks one"
)
def test_what_the_machine_lacks_is_left_out_with_a_warning(container):
    """As for `docker run --privileged` on a machine whose root lacks CAP_SYS_RESOURCE."""
    if "CAP_SYS_RESOURCE" in names(proc.parse_status(proc.read("self", "status"))["CapBnd"]):
        pytest.skip("this machine's root has CAP_SYS_RESOURCE")
    box = container(["/bin/sleep", "100"])
    wanted = ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    box.process["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective", "inheritable"), wanted)
    assert sets_of(box)["effective"] == {"CAP_CHOWN"}
    assert box.created is not None
    assert "CAP_SYS_RESOURCE" in box.created.stderr


@pytest.mark.differs(crun="crun 1.8.1 is silent")
def test_an_unknown_one_is_told(sleeper):
    """A name of a newer kernel, or a typing error: a warning or an error, never silence."""
    box = sleeper(bounding=["CAP_NOSUCH"], permitted=["CAP_NOSUCH"], effective=["CAP_NOSUCH"])
    result = box.create(check=None)
    assert "CAP_NOSUCH" in result.stderr

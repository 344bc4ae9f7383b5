"""The messages that criu gets and gives, and what is read of its log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyruntime.criu import checkpoint, images, messages, rpc
from pyruntime.errors import StateError, UsageError
from pyruntime.plan.request import Request


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, b"\0"), (1, b"\1"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2"), (1 << 35, b"\x80" * 5 + b"\1")],
)
def test_varints(value: int, data: bytes) -> None:
    """300 is the example of protobuf's own description."""
    assert messages.varint(value) == data
    assert list(messages.parse(b"\x08" + data)) == [(1, value)]


@given(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=300), st.integers(1, 1000))
def test_what_is_encoded_is_parsed(number: int, data: bytes, field: int) -> None:
    fields = [(1, number), (field + 1, data)]
    assert list(messages.parse(messages.encode(fields))) == fields


@given(st.binary(max_size=64))
def test_anything_can_come(data: bytes) -> None:
    try:
        list(messages.parse(data))
    except ValueError:
        pass


def test_a_request() -> None:
    options = {"images_dir_fd": 5, "log_file": "x", "leave_running": False, "external": ["a", "b"]}
    data = messages.request(messages.RESTORE, {**options, "cg_root": [("cpu", "/c")]})
    (_, type), (_, options) = messages.parse(data)
    assert type == messages.RESTORE
    assert [(number, value) for number, value in messages.parse(options)] == [
        (1, 5),
        (10, b"x"),
        (37, b"a"),
        (37, b"b"),
        (25, b"\x0a\x03cpu\x12\x02/c"),
    ]


def test_the_mode_that_is_zero_is_sent() -> None:
    data = messages.request(messages.DUMP, {"manage_cgroups_mode": [messages.CGROUP_MODES["ignore"]]})
    assert dict(messages.parse(dict(messages.parse(data))[2])) == {34: 0}


def test_a_response() -> None:
    notification = messages.encode([(1, "post-restore"), (2, 42)])
    response = messages.Response(messages.encode([(1, messages.NOTIFY), (2, True), (5, notification)]))
    assert (response.type, response.success, response.script, response.pid) == (6, True, "post-restore", 42)
    failed = messages.Response(messages.encode([(1, messages.DUMP), (2, False), (7, 3), (9, "why")]))
    assert (failed.success, failed.errno, failed.error) == (False, 3, "why")
    version = messages.Response(messages.encode([(1, 10), (2, True), (10, messages.encode([(1, 31700), (2, 1)]))]))
    assert version.version == (31700, 1)


def test_complaints(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(
        "(00.01) Warn  (criu/x.c:1): odd\n(00.02) Error (criu/files-reg.c:1710): Can't lookup mount=25\n"
        "(00.03) Error (criu/util.c:642): exited, status=1\n(00.04) Error (criu/cr-dump.c:2053): Dumping FAILED.\n"
    )
    assert rpc.complaints(str(log)) == "Can't lookup mount=25"
    assert rpc.complaints(str(tmp_path / "nosuch")) == ""


@pytest.mark.parametrize(
    ("text", "found"), [("10.0.0.1:27", ("10.0.0.1", 27)), ("[::1]:9", ("[::1]", 9)), (":1", ("", 1))]
)
def test_page_server(text: str, found: tuple[str, int]) -> None:
    assert checkpoint.page_server(text) == found


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "host:65536", "host:" + "9" * 5000])
def test_no_page_server(text: str) -> None:
    with pytest.raises(UsageError):
        checkpoint.page_server(text)


def test_empty_namespaces() -> None:
    assert images.empty_namespaces([]) == 0
    assert images.empty_namespaces(["network"]) == 0x40000000


def request(**linux: object) -> Request:
    mounts = [
        {"destination": "/data/", "type": "bind", "source": "/srv"},
        {"destination": "/gone", "source": "/srv", "options": ["rbind"]},
        {"destination": "/dev", "type": "tmpfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup"},
    ]
    nowhere: object = None
    return Request({"mounts": mounts, "linux": linux}, id="box", bundle="/b", layout=nowhere)  # type: ignore[arg-type]


def test_what_is_the_hosts() -> None:
    places = {"/": "ext4", "/data": "ext4", "/dev": "tmpfs", "/proc/kcore": "devtmpfs", "/sys/firmware": "tmpfs"}
    places |= {"/sys/fs/cgroup": "tmpfs", "/sys/fs/cgroup/cpu": "cgroup", "/dev/zero": "devtmpfs"}
    found = checkpoint.of_host(request(maskedPaths=["/proc/kcore", "/sys/firmware", "/proc/gone"]), places)
    assert found == {
        "/data": "/data",
        "/sys/fs/cgroup/cpu": "/sys/fs/cgroup/cpu",
        "/proc/kcore": "/dev/null",
        "/dev/zero": "/dev/zero",
    }


def test_with_a_cgroup_namespace_the_hierarchies_are_the_containers() -> None:
    places = {"/sys/fs/cgroup/cpu": "cgroup"}
    assert checkpoint.of_host(request(namespaces=[{"type": "cgroup"}]), places) == {}


def test_the_list_of_descriptors(tmp_path: Path) -> None:
    images.write_descriptors(str(tmp_path), ["pipe:[1]", "", "/x"])
    assert images.read_descriptors(str(tmp_path)) == ["pipe:[1]", "", "/x"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "too many levels of symbolic links"),
        (lambda path: path.symlink_to("other.json"), "too many levels of symbolic links"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_text("[" + '"",' * 40_000 + '""]'), "larger than 64 KiB"),
        (lambda path: path.write_text("[" * 60_000), "ested too deeply|Expecting value"),  # from Python 3.14 on
        (lambda path: path.write_text("{}"), "not a JSON array"),
    ],
)
def test_a_list_of_descriptors_that_came_from_elsewhere(tmp_path: Path, make, said: str) -> None:
    """An archive of images may hold anything in its place: no link is followed, nothing waits, little is read."""
    (tmp_path / "other.json").write_text("[]")
    make(tmp_path / images.DESCRIPTORS)
    with pytest.raises(StateError, match=said):
        images.read_descriptors(str(tmp_path))

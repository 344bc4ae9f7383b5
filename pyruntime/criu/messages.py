"""The messages of criu's service (criu/rpc.proto): the few fields that are used, in protobuf's wire format.

A message is a list of (field, value): integers and booleans become varints, text and nested messages are
length-delimited. What is not known of an answer is skipped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

# criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, VERSION = 1, 2, 4, 6, 10
# criu_cg_mode, by the words of --manage-cgroups-mode
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}

# criu_opts
OPTIONS = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "ext_unix_sk": 4,
    "tcp_established": 5,
    "shell_job": 7,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "ps": 11,
    "notify_scripts": 12,
    "root": 13,
    "parent_img": 14,
    "track_mem": 15,
    "auto_dedup": 16,
    "work_dir_fd": 17,
    "link_remap": 18,
    "manage_cgroups": 24,
    "cg_root": 25,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "manage_cgroups_mode": 34,
    "external": 37,
    "empty_ns": 38,
    "freeze_cgroup": 44,
    "tcp_skip_in_flight": 46,
    "lazy_pages": 48,
    "orphan_pts_master": 50,
    "config_file": 51,
    "tcp_close": 52,
    "lsm_profile": 53,
    "lsm_mount_context": 63,
}


class Response:
    """criu_resp. script, pid: of a notification; error: criu's words, if any."""

    __slots__ = ("errno", "error", "pid", "script", "success", "type", "version")

    def __init__(self, data: bytes) -> None:
        self.type = self.errno = self.pid = 0
        self.success = False
        self.script = self.error = ""
        self.version = (0, 0)
        for field, value in parse(data):
            if field == 1:
                self.type = value
            elif field == 2:
                self.success = bool(value)
            elif field == 4:  # criu_restore_resp
                self.pid = dict(parse(value)).get(1, 0)
            elif field == 5:  # criu_notify
                notification = dict(parse(value))
                self.script = notification.get(1, b"").decode(errors="replace")
                self.pid = notification.get(2, 0)
            elif field == 7:
                self.errno = value
            elif field == 9:
                self.error = value.decode(errors="replace")
            elif field == 10:  # criu_version
                numbers = dict(parse(value))
                self.version = (numbers.get(1, 0), numbers.get(2, 0))


def request(type: int, options: dict[str, object] | None = None) -> bytes:
    """criu_req. options: names of OPTIONS; a list is a field that is repeated, a tuple a nested message whose
    fields are numbered from 1."""
    fields: list[tuple[int, object]] = [(1, type)]
    if options is not None:
        found = [(OPTIONS[name], value) for name, value in options.items() if value not in (None, False, "", [])]
        fields.append((2, encode(found)))
    return encode(fields)


def notified() -> bytes:
    """criu_req: a notification has been dealt with."""
    return encode([(1, NOTIFY), (3, True)])


def encode(fields: Sequence[tuple[int, object]]) -> bytes:
    """Fields in protobuf's wire format."""
    data = bytearray()
    for number, value in fields:
        if isinstance(value, list):
            data += encode([(number, one) for one in value])
        elif isinstance(value, int):
            # Negative numbers are sign-extended to 64 bits.
            data += varint(number << 3) + varint(value & (1 << 64) - 1)
        else:
            if isinstance(value, tuple):
                value = encode(list(enumerate(value, 1)))
            elif isinstance(value, str):
                value = value.encode("utf-8", "surrogateescape")
            assert isinstance(value, bytes)
            data += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(data)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more come."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def parse(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field: an int, or bytes of what is length-delimited. Raises ValueError."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        value: Any
        if kind == 0:
            value, at = _read_varint(data, at)
            if value >> 31 & 1 and value >> 32 in (0, 0xFFFFFFFF):
                value = (value & 0xFFFFFFFF) - (1 << 32)  # an int32 below zero
        elif kind == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends after its message")
            value, at = data[at : at + size], at + size
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = data[at : at + width], at + width
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number without end")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at

"""Numbers that the kernel would take for others: -1 is "no id" to setuid(2), and a device number is cut to its width.

What may stand where is in tests/unit/test_check.py; here it is shown what became of it.
"""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess

import pytest
from support.refusal import create_refused, refused

NO_ID = 2**32 - 1
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


@pytest.mark.differs(runc="1.1.5 runs it as root", crun="1.8.1 runs it as root")
@pytest.mark.parametrize(
    ("field", "value"),
    [("uid", NO_ID), ("gid", NO_ID), ("uid", -1), ("uid", 2**32), ("additionalGids", [NO_ID])],
    ids=str,
)
def test_an_id_that_is_none_does_not_run_as_root(container, field, value):
    box = container(["/bin/id"])
    box.process["user"] = {"uid": 1000, "gid": 1000, field: value}
    result = create_refused(box, f"/process/user/{field}", "4294967294")
    assert "uid=0" not in result.stdout


@pytest.mark.ours
@pytest.mark.parametrize(
    ("field", "value"), [("uid", NO_ID), ("gid", NO_ID), ("additionalGids", [NO_ID]), ("uid", -1)], ids=str
)
def test_nor_does_one_of_exec(container, tmp_path, field, value):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"cwd": "/", "args": ["/bin/id"], "user": {"uid": 1000, "gid": 1000, field: value}}))
    result = box.runtime.run("exec", "--process", file, box.id, check=None)
    refused(box.runtime, result, f"/user/{field}", "4294967294")
    assert "uid=" not in result.stdout


@pytest.mark.ours
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--user", str(NO_ID)), ("--user", "4294967294")),
        (("--user", f"0:{NO_ID}"), ("--user", "4294967294")),
        (("--user", "9" * 5000), ("--user", "4294967294")),
        (("--additional-gids", str(NO_ID)), ("--additional-gids", "4294967294")),
        (("--additional-gids", "-1"), ("--additional-gids", "4294967294")),
        (tuple(word for gid in range(1, 65538) for word in ("-g", str(gid))), ("--additional-gids", "65536")),
        (("--env", "=x"), ("--env", "NAME=value")),
        (("--env", "FOO"), ("--env", "NAME=value")),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_flags_of_exec(container, flags, words):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    result = box.runtime.run("exec", *flags, box.id, "/bin/id", check=None)
    refused(box.runtime, result, *words)
    assert "uid=" not in result.stdout


@pytest.mark.ours
@pytest.mark.parametrize(
    ("pointer", "change"),
    [
        ("/hooks/createRuntime/0/env/0", {"hooks": {"createRuntime": [{"path": "/bin/true", "env": ["=x"]}]}}),
        ("/process/env/0", {"process": {"env": ["=x"]}}),
        ("/linux/devices/0/major", {"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": -1, "minor": -1}]}}),
        # mknod(2) takes 12 bits of it: 1:3 is /dev/null.
        (
            "/linux/devices/0/major",
            {"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 4097, "minor": 3}]}},
        ),
        ("/process/user/additionalGids", {"process": {"user": {"additionalGids": list(range(1, 65539))}}}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_create_and_validate_refuse_it(container, pointer, change):
    box = container()
    for name, value in change.items():
        box.config[name] = {**box.config.get(name, {}), **value}
    result = create_refused(box, pointer)
    assert "bug in pyruntime" not in result.stderr
    found = box.runtime.run("validate", "--no-host", "--format", "json", box.bundle.path, check=1)
    assert pointer in found.stdout


@pytest.mark.ours
def test_a_hook_may_take_as_long_as_it_likes(container):
    """A timeout that poll(2) does not take at once."""
    hook = {"path": "/bin/true", "timeout": 2**40}
    box = container(hooks={kind: [hook] for kind in ("createRuntime", "createContainer", "startContainer")})
    box.run()


@pytest.mark.differs(runc="1.1.5 has no ioPriority", crun="1.8.1 does not apply it")
@pytest.mark.skipif(platform.machine() not in SYS_IOPRIO_GET, reason="the number of ioprio_get is not known here")
def test_an_io_priority_without_a_priority_is_0(container):
    box = container(["/bin/sleep", "100"])
    box.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE"}
    box.create()
    box.start()
    value = ctypes.CDLL(None).syscall(SYS_IOPRIO_GET[platform.machine()], 1, box.pid)
    assert (value >> 13, value & 0x1FFF) == (2, 0)


@pytest.mark.ours
def test_a_umask_of_more_than_nine_bits_is_told(container):
    box = container(["/bin/sh", "-c", "umask"])
    box.process["user"] = {"uid": 0, "gid": 0, "umask": 2**32 - 1}
    result = box.run()
    assert result.stdout == "0777\n"
    assert "/process/user/umask" in result.stderr


def test_maps_of_more_ranges_than_the_kernel_takes(container):
    if subprocess.run(["unshare", "--user", "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    box = container()
    box.config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        box.config["linux"][name] = [{"containerID": 2 * n, "hostID": 2 * n, "size": 1} for n in range(341)]
    result = create_refused(box, "340")
    if box.runtime.is_ours:
        assert len(result.stderr) < 1000


@pytest.mark.ours
@pytest.mark.parametrize(
    "words",
    [
        ("update", "--memory", "9" * 400 + ".0"),
        ("update", "--memory", "9" * 5000),
        ("update", "--pids-limit", str(2**70)),
        ("update", "--cpu-quota", str(-(2**70))),
        ("kill", "9" * 5000),
        ("kill", "RTMIN+" + "9" * 5000),
        ("exec", "--preserve-fds", str(2**70)),
        ("exec", "--preserve-fds", "9" * 5000),
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_numbers_of_the_command_line(container, words):
    """Too large for the kernel, for a C integer, for int(): a refusal in words, never "bug in pyruntime"."""
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    verb, *flags = words
    command = [verb, box.id, *flags] if verb == "kill" else [verb, *flags, box.id]
    result = box.runtime.run(*command, *(["/bin/true"] if verb == "exec" else []), check=None)
    refused(box.runtime, result)
    assert "bug in pyruntime" not in result.stderr


@pytest.mark.ours
def test_an_interval_of_ages(container):
    """Longer than poll(2) takes: `events` waits, and ends with the container."""
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    events = box.runtime.spawn("events", "--interval", "99999999999999s", box.id)
    with pytest.raises(subprocess.TimeoutExpired):
        events.process.wait(1)
    box.kill("KILL")
    result = events.wait(10)
    assert "bug in pyruntime" not in result.stderr

"""What cannot work is refused: an exit status that is not 0, one line that says where and why, and nothing
left behind.

Wrong namespaces, mounts, hooks, rlimits, sysctls, ids and signals are with the tests of their subject.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess

import pytest
from support import kernel, leaks, proc
from support.refusal import create_refused, error_lines, nothing_left, refused


def test_no_such_bundle(runtime):
    result = runtime.run("create", "--bundle", "/nosuch/bundle", f"{leaks.PREFIX}-x", check=None)
    refused(runtime, result, "/nosuch/bundle")


def test_a_bundle_that_is_a_file(runtime):
    result = runtime.run("create", "--bundle", "/etc/passwd", f"{leaks.PREFIX}-x", check=None)
    refused(runtime, result, "/etc/passwd")


def test_no_config(container):
    box = container()
    box.bundle.frozen = True
    create_refused(box, "config.json")


BROKEN = {
    "empty": b"",
    "truncated": b'{"ociVersion": "1.0.2", "process": {',
    "a word": b"nonsense",
    "not UTF-8": b'{"ociVersion": "\xff\xfe"}',
    "a list": b"[]",
    "null": b"null",
    "a NUL": b'{"ociVersion": "1.0.2"}\x00',
    "two documents": b'{"ociVersion": "1.0.2"} {}',
    "very deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_not_json(container, runtime, name):
    if name == "very deep" and runtime.kind == "crun":
        pytest.skip("crun 1.8.1 does not check the depth, and runs out of stack at times")
    box = container()
    box.bundle.save_raw(BROKEN[name])
    create_refused(box, "config.json")


@pytest.mark.ours
def test_line_and_column_of_a_syntax_error(container):
    box = container()
    box.bundle.save_raw(b'{\n  "ociVersion": "1.0.2",\n  "process": oops\n}\n')
    result = create_refused(box, "config.json")
    assert re.search(r"line 3\D+column 14|:3:14", result.stderr), result.stderr


WRONG = {
    "/process/args": ("process", "args", "/bin/true"),
    "/process/args/0": ("process", "args", [7]),
    "/process/user/uid": ("process", "user", {"uid": "root", "gid": 0}),
    "/process/env": ("process", "env", {"A": "1"}),
    "/process/cwd": ("process", "cwd", 7),
    "/process/terminal": ("process", "terminal", "yes"),
    "/mounts": (None, "mounts", {"destination": "/x"}),
    "/mounts/0/options": (None, "mounts", [{"destination": "/x", "type": "tmpfs", "options": "ro"}]),
    "/hostname": (None, "hostname", 7),
    "/root": (None, "root", "rootfs"),
    "/linux/namespaces": ("linux", "namespaces", "all"),
    "/linux/uidMappings/0/size": ("linux", "uidMappings", [{"containerID": 0, "hostID": 1, "size": "all"}]),
    "/linux/cgroupsPath": ("linux", "cgroupsPath", ["/a"]),
    "/annotations": (None, "annotations", ["a"]),
    "/hooks/prestart": (None, "hooks", {"prestart": {"path": "/bin/true"}}),
    "/process/user/gid": ("process", "user", {"uid": 0, "gid": -1}),
    "/process/oomScoreAdj": ("process", "oomScoreAdj", 1.5),
}
CRUN_REFUSES = ("/process/args/0", "/process/cwd", "/mounts", "/root", "/process/user/gid")


@pytest.mark.parametrize("pointer", WRONG)
def test_wrong_type(container, pointer):
    box = container()
    if box.runtime.kind == "crun" and pointer not in CRUN_REFUSES:
        pytest.skip("crun 1.8.1 takes some wrong types for an absent field, or for 0")
    parent, field, value = WRONG[pointer]
    (box.config[parent] if parent else box.config)[field] = value
    create_refused(box, pointer)


@pytest.mark.parametrize(
    "pointer, path",
    [
        pytest.param("/ociVersion", ("ociVersion",), marks=pytest.mark.differs(runc="runc 1.1.5 does not look at it")),
        ("/process/cwd", ("process", "cwd")),
        ("/root", ("root",)),
        ("/root/path", ("root", "path")),
        ("/mounts/4/destination", ("mounts", 4, "destination")),
        ("/linux/namespaces/0/type", ("linux", "namespaces", 0, "type")),
    ],
)
def test_missing_field(container, pointer, path):
    box = container()
    place = box.config
    for word in path[:-1]:
        place = place[word]
    del place[path[-1]]
    create_refused(box, pointer.rpartition("/")[2])


@pytest.mark.differs(runc="runc 1.1.5 does not look at it")
@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "one", ""])
def test_versions_that_are_refused(container, version):
    create_refused(container(ociVersion=version), "ociVersion")


@pytest.mark.parametrize(
    "version",
    [
        "1.0.0",
        "1.0.2-dev",
        "1.1.0",
        *(
            pytest.param(version, marks=pytest.mark.differs(crun="crun 1.8.1 takes 1.0 and 1.1 only"))
            for version in ("1.2.1", "1.3.0", "1.9.0")
        ),
    ],
)
def test_versions_that_are_taken(container, version):
    """A minor version adds fields; it takes nothing away."""
    box = container(ociVersion=version)
    box.run()


def test_rootfs_missing(container):
    box = container()
    box.config["root"]["path"] = "nosuchroot"
    create_refused(box, "/root/path", "nosuchroot")


def test_rootfs_is_a_file(container):
    box = container()
    box.config["root"]["path"] = "config.json"
    create_refused(box, "/root/path")


def test_a_used_id_is_named(container, bundle):
    box = container(["/bin/sleep", "100"])
    box.create()
    refused(box.runtime, box.create(check=None), box.id)
    assert box.status() == "created"


@pytest.mark.parametrize("broken", ["no process", "no args", "empty args"])
def test_no_command(container, broken):
    """runtime.md: `process` may be absent at create; a start without one is an error."""
    box = container()
    if broken == "no process":
        if box.runtime.kind != "ours":
            pytest.skip("runc 1.1.5 and crun 1.8.1 crash")
        del box.config["process"]
    elif broken == "no args":
        if box.runtime.kind == "crun":
            pytest.skip("crun 1.8.1 starts nothing, and says that all is well")
        del box.process["args"]
    else:
        box.process["args"] = []
    result = box.create(check=None)
    if result.code == 0:
        result = box.start(check=None)
    refused(box.runtime, result, "args")


def test_command_not_found(container):
    """Docker and podman look for these words to exit with 127."""
    box = container(["nosuch"])
    result = create_refused(box, 'exec: "nosuch": executable file not found in $PATH')
    assert "nosuch" in result.stderr
    assert "not found in $PATH" in result.stderr


@pytest.mark.parametrize("command", ["/nosuch", "/nosuch/sub", "./nosuch"])
def test_command_path_does_not_exist(container, command):
    result = create_refused(container([command]), f'exec: "{command}"', "no such file or directory")
    assert "No such file or directory".lower() in result.stderr.lower()


def test_command_is_not_executable(container):
    box = container(["/etc/passwd"])
    create_refused(box, 'exec: "/etc/passwd"', "permission denied")


@pytest.mark.differs(crun="crun 1.8.1 says that the operation is not permitted")
def test_command_is_a_directory(container):
    """Either of two messages makes docker exit with 126."""
    result = create_refused(container(["/etc"]), 'exec: "/etc"')
    assert re.search("permission denied|is a directory", result.stderr, re.I)


def run_refused(box, *words: str) -> str:
    """An execve(2) that fails: the runtime may notice it at create or at start, `run` fails in any case."""
    before = set(proc.children())
    result = box.run(check=None, timeout=15)
    refused(box.runtime, result, *words)
    nothing_left(box, before)
    return error_lines(result)[-1]


def test_wrong_architecture(container):
    """An ELF file of another machine (elf(5)): 183 is AArch64, 62 x86-64."""
    machine = 62 if os.uname().machine == "aarch64" else 183
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    )
    box = container(["/tool"])
    box.bundle.write("tool", header + bytes(100), 0o755)
    run_refused(box, "/tool", "exec format error")


@pytest.mark.parametrize("content", ["", "echo no first line\n"], ids=["empty", "text"])
def test_no_known_format(container, content):
    box = container(["/tool"])
    box.bundle.write("tool", content, 0o755)
    run_refused(box, "/tool", "exec format error")


def test_script_without_its_interpreter(container):
    """execve(2) says that the script does not exist, which is not what is missing."""
    box = container(["/tool"])
    box.bundle.write("tool", "#!/nosuch/interpreter -x\necho\n", 0o755)
    run_refused(box, "/tool", "/nosuch/interpreter")


def test_script_with_a_carriage_return(container):
    """Written on Windows: the interpreter's name ends with a character that nobody sees."""
    box = container(["/tool"])
    box.bundle.write("tool", "#!/bin/sh\r\necho\r\n", 0o755)
    line = run_refused(box, "/tool")
    if box.runtime.is_ours:
        assert re.search(r"CRLF|carriage|\\r|Windows", line), line


def test_cwd_is_a_file(container):
    box = container()
    box.process["cwd"] = "/etc/passwd"
    create_refused(box, "/process/cwd")


@pytest.mark.differs(crun="crun 1.8.1 takes it from the root")
def test_cwd_is_relative(container):
    box = container()
    box.process["cwd"] = "etc"
    create_refused(box, "/process/cwd")


def test_a_terminal_without_a_console_socket(container):
    """There is nobody to hand the master to."""
    box = container()
    box.process["terminal"] = True
    create_refused(box, "console-socket")


def test_a_console_socket_that_is_not_there(container):
    box = container()
    box.process["terminal"] = True
    before = set(proc.children())
    result = box.create("--console-socket", "/nosuch/socket", check=None)
    refused(box.runtime, result, "/nosuch/socket")
    nothing_left(box, before)


def test_a_pid_file_that_cannot_be_written(container):
    """Nobody would learn the pid: create fails and takes everything back."""
    box = container()
    box.bundle.save()
    before = set(proc.children())
    command = ("create", "--bundle", box.bundle.path, "--pid-file", "/nosuch/folder/pid", box.id)
    result = box.runtime.run(*command, check=None)
    refused(box.runtime, result, "/nosuch/folder")
    nothing_left(box, before)


@pytest.mark.differs(crun="crun 1.8.1 does not notice the loss", sometimes=True)
def test_a_full_disk(container):
    """The state record does not fit: create fails and takes everything back."""
    box = container(annotations={"large": "x" * 100_000})
    box.runtime.root.mkdir()
    kernel.mount("tmpfs", str(box.runtime.root), "tmpfs", 0, "size=16k")
    try:
        create_refused(box, "space")
    finally:
        kernel.umount(str(box.runtime.root), kernel.MNT_DETACH)


def test_a_read_only_state_directory(container):
    box = container()
    box.runtime.root.mkdir()
    kernel.mount("tmpfs", str(box.runtime.root), "tmpfs", kernel.MS_RDONLY)
    try:
        create_refused(box, "read-only", str(box.runtime.root))
    finally:
        kernel.umount(str(box.runtime.root), kernel.MNT_DETACH)


def test_a_state_directory_that_is_a_file(container):
    box = container()
    box.bundle.save()
    file = box.runtime.folder / "file"
    file.touch()
    command = (f"--root={file}", "create", "--bundle", box.bundle.path, box.id)
    result = box.runtime.run(*command, check=None, root=False)
    refused(box.runtime, result, str(file))


def test_no_permission(container):
    """An ordinary user, and a --root that is not theirs."""
    box = container()
    box.bundle.save()
    if subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "test", "-x", box.runtime.executable.path]
    ).returncode:
        pytest.skip("the runtime under test cannot be reached by an ordinary user")
    box.runtime.root.mkdir(mode=0o700)
    command = ("create", "--bundle", box.bundle.path, box.id)
    wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    result = box.runtime.run(*command, check=None, wrap=wrap)
    refused(box.runtime, result, "permission")


@pytest.mark.parametrize(
    "words",
    [
        ["nosuchcommand"],
        ["--nosuchflag", "list"],
        ["create", "--nosuchflag", "x"],
        ["state", "--nosuchflag=1", "x"],
        ["create", "x", "--pid-file"],
        ["delete"],
        ["list", "--format", "nosuchformat"],
    ],
    ids=" ".join,
)
def test_wrong_usage(runtime, words):
    if words == ["nosuchcommand"] and runtime.kind == "runc":
        pytest.skip("runc 1.1.5 has its own words on stdout")
    result = runtime.run(*words, check=None)
    assert result.code != 0
    if runtime.is_ours:
        wrong = next((word for word in words if "nosuch" in word or word == "--pid-file"), "")
        refused(runtime, result, wrong.partition("=")[0])

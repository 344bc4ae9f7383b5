"""The annotation org.pyruntime.landlock: what the program, and a process of exec, may then do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import config as configs
from support.container import Container

from pyruntime.kernel import ruleset

ANNOTATION = "org.pyruntime.landlock"
BINARIES = [{"path": "/bin", "access": ["read", "execute"]}]

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(ruleset.abi() < 6, reason=f"this kernel has version {ruleset.abi()} of Landlock, 6 is needed"),
]


def restricted(make: Any, document: object, sh: str) -> Container:
    one: Container = make(sh=sh)
    one.config["annotations"] = {ANNOTATION: document if isinstance(document, str) else json.dumps(document)}
    for place in ("data", "other"):
        (one.rootfs / place).mkdir(mode=0o777)
        (one.rootfs / place / "file").write_text(f"{place}\n")
    return one


def test_paths(container: Any) -> None:
    document = {"paths": [*BINARIES, {"path": "/data", "access": ["read"]}, {"path": "/dev", "access": ["write"]}]}
    script = """
        cat /data/file
        cat /other/file && echo wrong
        echo x >/data/file && echo wrong
        echo x >/data/new && echo wrong
        rm /data/file && echo wrong
        : >/dev/null && echo null
        cat /proc/self/status && echo wrong
        cp /bin/busybox /dev/shm/b && chmod +x /dev/shm/b && /dev/shm/b true && echo wrong
        exit 0
    """
    result = restricted(container, document, script).run()
    assert "wrong" not in result.stdout, result
    assert "data\n" in result.stdout and "null\n" in result.stdout
    assert result.stderr.count("ermission denied") >= 4


def test_write_is_files_and_directories(container: Any) -> None:
    document = {"paths": [*BINARIES, {"path": "/data", "access": ["read", "write"]}]}
    script = "echo x >/data/file; mkdir /data/d && mv /data/file /data/d/moved && rm -r /data/d && echo done"
    assert "done" in restricted(container, document, script).run().stdout


def test_exec_is_restricted_too(container: Any) -> None:
    document = {"paths": [*BINARIES, {"path": "/data", "access": ["read"]}]}
    one = restricted(container, document, "while :; do sleep 1; done")
    one.create()
    one.start()
    assert one.runtime.run("exec", one.id, "cat", "/data/file").stdout == "data\n"
    for words in ((), ("--no-new-privs=false",)):
        failed = one.runtime.run("exec", *words, one.id, "cat", "/other/file", check=None)
        assert "ermission denied" in failed.stderr
    audited = one.runtime.run("audit", one.id).stdout
    assert "the kernel does not show the Landlock rules" in audited
    failed = one.runtime.run("checkpoint", "--image-path", str(one.runtime.folder / "images"), one.id, check=None)
    assert "Landlock" in failed.stderr
    assert one.status() == "running"


def test_tcp_ports(container: Any) -> None:
    """nc of busybox: to bind to a port, and to connect to one."""
    script = """
        nc -l -p 8080 -e /bin/true & sleep 0.5
        nc 127.0.0.1 8080 </dev/null && echo connected
        nc -l -p 8081 -e /bin/true
        nc 127.0.0.1 8082 </dev/null
        exit 0
    """
    result = restricted(container, {"tcp": {"bind": [8080], "connect": [8080]}}, script).run()
    assert "connected" in result.stdout, result
    assert result.stderr.count("ermission denied") == 2, result.stderr


def test_a_signal_out_of_the_domain(container: Any) -> None:
    """In a shared pid namespace: kill(2) of a process that is not restricted."""
    outside = container(["sleep", "100"])
    outside.create()
    outside.start()
    one = restricted(container, {"scope": ["signal"]}, f"kill -0 {outside.pid} || echo refused; kill -0 $$ && echo own")
    configs.drop_namespace(one.config, "pid")
    result = one.run()
    assert result.stdout == "refused\nown\n", result
    assert "not permitted" in result.stderr


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not valid JSON"),
        ({}, "restricts nothing"),
        ({"path": []}, "not a member"),
        ({"paths": [{"path": "data", "access": []}]}, "not absolute"),
        ({"paths": [{"path": "/data", "access": ["reed"]}]}, "unknown word"),
        ({"tcp": {"bind": [70000]}}, "not a port"),
        ({"paths": [{"path": "/missing", "access": ["read"]}]}, "ENOENT"),
    ],
)
def test_refused(container: Any, document: object, words: str) -> None:
    one = restricted(container, document, "echo ran")
    result = one.run(check=None)
    assert result.code == 1
    assert words in result.stderr
    assert ANNOTATION in result.stderr
    assert "ran" not in result.stdout


def test_it_is_explained(container: Any) -> None:
    one = restricted(container, {"scope": ["signal"]}, "true")
    one.bundle.save()
    text = one.runtime.run("explain", str(one.bundle.path)).stdout
    assert "by Landlock" in text

"""What the library and the shim share with the command line: nothing that the command keeps is lost on their way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import leaks
from support.shim import Task

import pyruntime
from pyruntime import aio
from pyruntime.shim import wire

pytestmark = pytest.mark.ours
LAUNCHER = Path(__file__).resolve().parents[2] / "build/bin/pyruntime"


@pytest.fixture
def sleeper(base: Path, tmp_path: Path, machine: None) -> pyruntime.Bundle:
    """A bundle that sleeps, with its cgroup below one of this test's."""
    made = pyruntime.Bundle.make(tmp_path / "bundle", base, ["/bin/sleep", "1000"])
    made.config["linux"]["cgroupsPath"] = f"/{leaks.PREFIX}-library"
    made.save()
    return made


@pytest.mark.parametrize("flags", [[], ["--no-new-keyring"]], ids=["of its own", "of the caller"])
def test_session_keyring_of_an_exec_by_the_library(container: Callable[..., Any], flags: list[str]) -> None:
    box = container(["/bin/sleep", "100"])
    box.create(*flags)
    box.start()
    # In a program of its own, with which the helper ends: `runtime` looks for what is left behind.
    text = f"import sys; sys.path[:0] = {sys.path!r}; import pyruntime\n"
    text += f"box = pyruntime.Container({box.id!r}, root={str(box.runtime.root)!r})\n"
    text += "print(box.run(['cat', '/proc/keys'], check=True).stdout)"
    keys = subprocess.run([sys.executable, "-I", "-c", text], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert (f"_ses.{box.id}" in keys) == (not flags)


@pytest.mark.parametrize("kept", [False, True], ids=["of its own", "of the caller"])
def test_session_keyring_of_an_exec_by_the_shim(task: Callable[..., Task], kept: bool) -> None:
    one = task(["/bin/sleep", "1000"])
    before = keyrings(Path("/proc/keys").read_text(), one.id)
    value = wire.encode("Options", {"no_new_keyring": kept})
    one.create(options={"type_url": "containerd.runc.v1.Options", "value": value})
    one.start()
    output = one.path / "keys"
    spec = {"args": ["cat", "/proc/keys"], "cwd": "/", "env": ["PATH=/bin"]}
    any = {"type_url": "Process", "value": json.dumps(spec).encode()}
    streams = {"stdout": f"file://{output}", "stderr": f"file://{output}"}
    one.client.call("Exec", "ExecProcessRequest", id=one.id, exec_id="e", spec=any, **streams)
    one.start("e")
    assert one.wait("e") == 0
    one.delete("e")
    assert bool(keyrings(output.read_text(), one.id) - before) == (not kept)


def keyrings(keys: str, id: str) -> set[str]:
    """The serial numbers of the session keyrings of this name: one of an earlier container may not be collected yet."""
    return {line.split()[0] for line in keys.splitlines() if f" _ses.{id}:" in line}


def test_long_command_lines(sleeper: pyruntime.Bundle, tmp_path: Path) -> None:
    """Arguments and environment up to what execve(2) takes, which is more than a packet of a socket."""
    with pyruntime.Container(f"{leaks.PREFIX}-long", sleeper, root=tmp_path / "root") as box:
        box.create()
        box.start()
        script = 'echo $# ${#1} ${#LAST}; eval "echo \\${#${#}}"'
        for count in (60, 130, 300, 1000):
            words = ["x" * 1000] * count
            variables = {f"V{number}": "y" * 1000 for number in range(300)} | {"LAST": "z" * 100_000}
            done = box.run(["/bin/sh", "-c", script, "sh", *words], env=variables, check=True)
            assert done.stdout.split() == [str(count), "1000", "100000", "1000"]
        with pytest.raises(pyruntime.PyruntimeError, match="x" * 1000):
            box.run(["x" * 120_000], env={"V": "y" * 120_000})
        with pytest.raises(pyruntime.PyruntimeError, match=r"argument list too long|E2BIG"):
            box.run(["/bin/true", "x" * 200_000])
        with pytest.raises(pyruntime.PyruntimeError, match="more than 16777216 bytes"):
            box.run(["/bin/true", *["x" * 1000] * 20_000])
        assert box.run(["/bin/true"]).returncode == 0


def descriptors() -> set[str]:
    return {f"{name} {os.readlink(f'/proc/self/fd/{name}')}" for name in os.listdir("/proc/self/fd") if _is_open(name)}


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


def test_asyncio_leaves_no_descriptor_open(sleeper: pyruntime.Bundle, tmp_path: Path) -> None:
    """Pipes and terminals of containers and processes, calls that are cancelled or fail."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    root = tmp_path / "root"

    async def life() -> None:
        async with aio.Container(f"{leaks.PREFIX}-aio", sleeper, root=root) as box:
            with pytest.raises(pyruntime.NotFound):
                await box.start()
            await box.create(**pipes)
            await box.start()
            async with await box.exec(["sh", "-c", "exit 3"], **pipes) as process:
                assert await process.wait() == 3
            async with await box.exec(["sh", "-c", "exit 4"], terminal=True) as process:
                assert await process.wait() == 4
            with pytest.raises(pyruntime.PyruntimeError):
                await box.exec(["/no/such"], **pipes)
            with pytest.raises(pyruntime.PyruntimeError):
                await box.exec(["/no/such"], terminal=True)
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(box.wait(), 0.01)
            creating = asyncio.create_task(box.create(**pipes))
            await asyncio.sleep(0)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
            await asyncio.sleep(0.1)

    async def twice() -> None:
        before = descriptors()
        await life()
        assert descriptors() == before

    asyncio.run(life())  # which starts the helper
    asyncio.run(twice())


def test_a_container_whose_delete_fails_is_closed(sleeper: pyruntime.Bundle, tmp_path: Path) -> None:
    with pyruntime.Container(f"{leaks.PREFIX}-first", sleeper, root=tmp_path / "root") as box:
        box.create(stdout=subprocess.PIPE)
        other = pyruntime.Container(f"{leaks.PREFIX}-first", root=tmp_path / "root")
        other.stdout = box.stdout
        other.root = "/proc/none"
        with pytest.raises(RuntimeError, match="mine"), other:
            raise RuntimeError("mine")
        assert other.stdout is not None
        assert other.stdout.closed


@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.parametrize("directory", ["", "run"])
def test_the_default_root_is_the_commands(tmp_path: Path, user: str, directory: str) -> None:
    """For root of the host, and of a user namespace, whatever XDG_RUNTIME_DIR and USER say."""
    environment = {"PATH": os.environ["PATH"], "USER": user}
    if directory:
        environment["XDG_RUNTIME_DIR"] = str(tmp_path / directory)
    text = f"import sys; sys.path[:0] = {sys.path!r}; import pyruntime; print(pyruntime.Container('none').root)"
    for prefix in ([], ["unshare", "--user", "--map-root-user"]):
        library = [*prefix, sys.executable, "-I", "-c", text]
        found = subprocess.run(library, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        command = subprocess.run([*prefix, LAUNCHER, "state", "none"], env=environment, capture_output=True, text=True)
        assert f"{found}/none does not exist" in command.stderr
        assert (found == f"{tmp_path}/run/pyruntime") == bool(prefix and directory and user != "root")

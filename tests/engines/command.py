"""Run a client of an engine: to its end with its output, or on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Where the engines of another release are unpacked (tools/engines/fetch); "" for those of the machine.
GIVEN = os.environ.get("ENGINES_FROM", "") and str(Path(os.environ["ENGINES_FROM"]).resolve())
PATH = "".join(f"{GIVEN}/usr/{name}:" for name in ("sbin", "bin") if GIVEN)
PATH += "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "xterm"}
TIMEOUT = 30.0


@dataclass(frozen=True)
class Result:
    """A finished command: its exit status (negative: minus the signal) and its output."""

    command: Sequence[str]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"{' '.join(self.command)}\nexit {self.code}\nstdout: {self.stdout}\nstderr: {self.stderr}"


def run(
    command: Sequence[str],
    *,
    check: int | None = 0,
    timeout: float = TIMEOUT,
    env: dict[str, str] = ENVIRONMENT,
    input: str | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run a command; `check` is the exit status it must have, None takes any. Without `input` stdin is /dev/null."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
    )
    try:
        stdout, stderr = process.communicate(input, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(
            f"no end after {timeout} s: {' '.join(command)}\nstdout: {stdout}\nstderr: {stderr}"
        ) from None
    result = Result(command, process.returncode, stdout, stderr)
    assert check is None or result.code == check, f"exit status {check} expected\n{result}"
    return result


def run_on_terminal(
    command: Sequence[str],
    talk: Sequence[tuple[str, str]] = (),
    *,
    check: int | None = 0,
    timeout: float = TIMEOUT,
    env: dict[str, str] = ENVIRONMENT,
) -> Result:
    """Run a command on a new terminal, which is its controlling one.

    `talk` holds (what to wait for in the output, what to type then). All output is in `stdout`.
    """
    deadline = time.monotonic() + timeout
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.execvpe(command[0], list(command), env)
        finally:
            os._exit(127)
    output, seen, talk = "", 0, list(talk)
    try:
        while True:
            if not select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no end after {timeout} s: {' '.join(command)}\noutput: {output}")
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other side open any more
                break
            if not data:
                break
            output += data.decode(errors="replace")
            while talk and talk[0][0] in output[seen:]:
                expected, typed = talk.pop(0)
                seen = output.index(expected, seen) + len(expected)
                os.write(master, typed.encode())
    except BaseException:
        os.kill(pid, 9)
        raise
    finally:
        os.close(master)
        _, status = os.waitpid(pid, 0)
    result = Result(command, os.waitstatus_to_exitcode(status), output, "")
    assert not talk, f"never written: {talk[0][0]!r}\n{result}"
    assert check is None or result.code == check, f"exit status {check} expected\n{result}"
    return result

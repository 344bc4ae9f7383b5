"""The runtime under test: which one it is, and how a command of it is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.proc import SLOW

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT = CHECKOUT / "build/bin/pyruntime"
# Programs of another Debian release go before the machine's own (tools/engines/fetch): criu, runc, crun.
GIVEN = os.environ.get("ENGINES_FROM", "") and os.path.abspath(os.environ["ENGINES_FROM"])
PATH = f"{GIVEN}/usr/sbin:{GIVEN}/usr/bin:" if GIVEN else ""
ENVIRONMENT = {"PATH": f"{PATH}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "OUTSIDE": "leaks"}
TIMEOUT = 30.0

# What the `differs` marks were calibrated with: with another version, an unexpected pass is no failure.
CALIBRATED = {"runc": "1.1.5", "crun": "1.8.1"}


@dataclass(frozen=True)
class Executable:
    """`kind` is ours, runc or crun, as `--version` says; `version` is the first number in its output."""

    path: str
    kind: str
    version: str

    @property
    def calibrated(self) -> bool:
        return CALIBRATED.get(self.kind) == self.version


def find() -> Executable:
    """The runtime named by PYRUNTIME_UNDER_TEST (a name in PATH or a path), else that of the checkout."""
    wanted = os.environ.get("PYRUNTIME_UNDER_TEST") or str(DEFAULT)
    path = shutil.which(wanted, path=ENVIRONMENT["PATH"])
    if path is None:
        raise FileNotFoundError(f"no runtime to test at {wanted} (`make build` makes {DEFAULT})")
    output = subprocess.run(
        [os.path.abspath(path), "--version"], env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT * SLOW
    ).stdout
    kind = next((name for name in CALIBRATED if output.startswith(name)), "ours")
    number = re.search(r"\d+(\.\d+)+", output)
    return Executable(os.path.abspath(path), kind, number.group() if number else "")


@dataclass(frozen=True)
class Result:
    """A finished command: its exit status (negative: minus the signal) and what it and its container
    wrote."""

    command: Sequence[str]
    code: int
    stdout_file: Path
    stderr_file: Path

    @property
    def stdout(self) -> str:
        return self.stdout_file.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def __str__(self) -> str:
        return f"{' '.join(self.command)}\nexit {self.code}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class Command:
    """A started command. Its output goes to files, never to pipes: an init that lives on would hold a pipe
    open."""

    def __init__(self, process: subprocess.Popen[bytes], result: Result) -> None:
        self.process = process
        self._result = result

    @property
    def stdout(self) -> str:
        return self._result.stdout

    @property
    def stderr(self) -> str:
        return self._result.stderr

    def wait(self, timeout: float = TIMEOUT) -> Result:
        """The result, when it has ended; a command that does not end in `timeout` seconds (times SLOW) is killed and
        fails the test."""
        timeout *= SLOW
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"no end after {timeout} s\n{self._result}") from None
        return Result(self._result.command, code, self._result.stdout_file, self._result.stderr_file)

    def stop(self) -> None:
        """Kill it when it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Runtime:
    """Runs commands of the runtime with a `--root` of this test, so that /run is never touched."""

    def __init__(self, executable: Executable, folder: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.root = folder / "root"
        self.output = folder / "output"
        self.output.mkdir(parents=True)
        self.commands: list[Command] = []

    @property
    def kind(self) -> str:
        return self.executable.kind

    @property
    def is_ours(self) -> bool:
        return self.executable.kind == "ours"

    def spawn(
        self,
        *args: str | os.PathLike[str],
        flags: Sequence[str] = (),
        stdin: str | int | None = None,
        env: Mapping[str, str] = ENVIRONMENT,
        cwd: str | os.PathLike[str] | None = None,
        wrap: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        root: bool = True,
    ) -> Command:
        """Start `WRAP… RUNTIME --root ROOT FLAGS… ARGS…`; `stdin` is a text or an open file, else it is
        /dev/null."""
        own_root = ["--root", str(self.root)] if root else []
        command = [*wrap, self.executable.path, *own_root, *flags, *(os.fspath(arg) for arg in args)]
        number = len(self.commands)
        files = self.output / f"{number}.out", self.output / f"{number}.err"
        given = self.output / f"{number}.in"
        if isinstance(stdin, str):
            given.write_text(stdin)
        with open(files[0], "wb") as out, open(files[1], "wb") as err:
            source = open(given, "rb") if isinstance(stdin, str) else None
            process = subprocess.Popen(
                command,
                stdin=source or (subprocess.DEVNULL if stdin is None else stdin),
                stdout=out,
                stderr=err,
                env=dict(env),
                cwd=cwd or self.folder,
                pass_fds=pass_fds,
            )
            if source:
                source.close()
        self.commands.append(Command(process, Result(command, 0, *files)))
        return self.commands[-1]

    def run(self, *args: str | os.PathLike[str], check: int | None = 0, timeout: float = TIMEOUT, **options) -> Result:
        """Run a command to its end. `check` is the exit status it must have; None takes any."""
        result = self.spawn(*args, **options).wait(timeout)
        assert check is None or result.code == check, f"exit status {check} expected\n{result}"
        return result

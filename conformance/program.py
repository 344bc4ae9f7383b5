"""Runs one program of the suite and turns its TAP into a verdict.

A verdict is one of
    PASS     exit 0, no "not ok", as many checks as planned
    FAIL     at least one "not ok" (those marked TODO apart)
    ERROR    exit status not 0 or plan not met, though no check says "not ok"
    SKIP     nothing but skipped checks
    PASS0    exit 0, no check at all and no error reported: the hook programs never print a check
    FAIL0    no check at all, and an error reported
    TIMEOUT  not done within the limit
    HOLLOW   clean, but with words that show that nothing was tested (expected.toml, `hollow`)
PASS and PASS0 are clean.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

CLEAN = ("PASS", "PASS0")
CHECK = re.compile(r"(not )?ok\b(?P<rest>.*)")
PLAN = re.compile(r"1\.\.(\d+)")


class LimitReached(Exception):
    """The program took longer than it may."""


@dataclass
class Result:
    """What a program said: numbers of checks, its verdict, and the lines that show why it is not clean."""

    verdict: str
    ok: int = 0
    not_ok: int = 0
    skipped: int = 0
    seconds: float = 0.0
    tries: int = 1
    details: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.verdict in CLEAN

    def counts(self) -> str:
        return f"{self.ok}/{self.not_ok}/{self.skipped}"


def judge(tap: str, status: int) -> Result:
    """The Result of a program that wrote TAP and exited with STATUS.

    Neither prove(1) nor most other TAP readers can be used here: the details are JSON in a YAML block, a
    program may print several plans (one a container), and the hook programs print no check at all.
    """
    ok = not_ok = skipped = todo = planned = errors = 0
    details: list[str] = []
    in_block = False
    failing = True  # before the first check: the hook programs have nothing but blocks
    for line in tap.splitlines():
        if line.strip() in ("---", "..."):
            in_block = line.strip() == "---"
        elif in_block:
            errors += line.lstrip().startswith('"error":')
            if failing and line.strip() not in ("{", "}"):
                details.append(line.strip())
        elif plan := PLAN.match(line):
            planned += int(plan[1])
        elif check := CHECK.match(line):
            rest = check["rest"].lower()
            failing = check[1] is not None
            if "# skip" in rest:
                skipped += 1
            elif "# todo" in rest:
                todo += 1
            elif check[1]:
                not_ok += 1
                details.append(line)
            else:
                ok += 1
    checks = ok + not_ok + skipped + todo
    if not_ok:
        verdict = "FAIL"
    elif status or (checks and planned != checks):
        verdict = "ERROR"
    elif not checks:
        verdict = "FAIL0" if errors else "PASS0"
    else:
        verdict = "PASS" if ok + todo else "SKIP"
    return Result(verdict, ok, not_ok, skipped, details=details)


def run(program: Path, suite: Path, runtime: str, output: Path, limit: float) -> Result:
    """Run PROGRAM in the folder SUITE against RUNTIME (absolute path); output goes to OUTPUT.tap and .err.

    The caller is a subreaper: orphans (the containers' inits) are reaped here while the program runs, as a
    real process 1 would do.
    """
    begin = time.monotonic()
    environment = {**os.environ, "RUNTIME": runtime}
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    tap, err = output.with_suffix(".tap"), output.with_suffix(".err")
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(tap), create, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, str(err), create, 0o644),
    ]
    os.chdir(suite)
    pid = os.posix_spawn(program, [str(program)], environment, file_actions=files, setpgroup=0)
    status: int | None
    try:
        signal.signal(signal.SIGALRM, _limit_reached)
        signal.setitimer(signal.ITIMER_REAL, limit)
        status = _reap_until(pid)
    except LimitReached:
        status = None
        os.killpg(pid, signal.SIGKILL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    result = judge(tap.read_text(errors="replace"), 0 if status is None else status)
    if status is None:
        result.verdict = "TIMEOUT"
    elif not result.clean:
        if status:
            result.details.append(f"exit status {status}")
        result.details += err.read_text(errors="replace").splitlines()[-4:]
    result.seconds = time.monotonic() - begin
    return result


def _limit_reached(*_: object) -> None:
    raise LimitReached


def _reap_until(wanted: int) -> int:
    """Reap children until WANTED has ended; returns its exit status."""
    while True:
        pid, status = os.wait()
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def end_orphans() -> int:
    """Kill and reap every child this process has now; returns how many were still alive."""
    alive = 0
    while True:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return alive
        for child in children:
            try:
                if os.waitpid(int(child), os.WNOHANG)[0] == 0:
                    alive += 1
                    os.kill(int(child), signal.SIGKILL)
                    os.waitpid(int(child), 0)
            except (ChildProcessError, ProcessLookupError):
                pass

"""Many containers at once, and many commands on one container at once."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support import leaks, proc
from support.runtime import ENVIRONMENT, Command

# 200 in `make test-faults`
MANY = int(os.environ.get("PYRUNTIME_TEST_TOGETHER", "40"))
AT_ONCE = 16
RACERS = 6
SECONDS = 6.0 if MANY < 200 else 20.0
BUGS = ("Traceback", "bug in pyruntime", "unknown error", "damaged")


def in_parallel(spawn, count: int) -> None:
    """Run the commands spawn(0), spawn(1), …, AT_ONCE at a time; each must succeed."""
    running: list[Command] = []
    for number in range(count):
        while len(running) >= AT_ONCE:
            for command in [one for one in running if one.process.poll() is not None]:
                assert command.wait().code == 0, command.wait()
                running.remove(command)
            time.sleep(0.001)
        running.append(spawn(number))
    for command in running:
        assert command.wait().code == 0, command.wait()


def test_many_containers_at_once(container, runtime):
    """Started, looked at and deleted in parallel: every one is what it should be."""
    boxes = []
    for number in range(MANY):
        box = container(["/bin/sleep", str(1000 + number)])
        box.bundle.save()
        boxes.append(box)

    def run(number: int) -> Command:
        box = boxes[number]
        return runtime.spawn("run", "-d", "--pid-file", box.pid_file, "--bundle", box.bundle.path, box.id)

    in_parallel(run, MANY)
    assert {box.id for box in boxes} == set(runtime.run("list", "-q").stdout.split())
    assert len({box.pid for box in boxes}) == MANY
    for number, box in enumerate(boxes):
        assert box.proc("cmdline").split("\0")[1] == str(1000 + number)
    for box in boxes[:: max(MANY // 20, 1)]:
        state = box.state()
        assert (state["status"], state["pid"]) == ("running", box.pid)
    in_parallel(lambda number: runtime.spawn("delete", "--force", boxes[number].id), MANY)
    assert runtime.run("list", "-q").stdout == ""


class Racer(threading.Thread):
    """Gives random commands on one id, and judges every answer."""

    VERBS = (
        ("create", "--bundle", "{bundle}", "{id}"),
        ("run", "--detach", "--bundle", "{bundle}", "{id}"),
        ("start", "{id}"),
        ("state", "{id}"),
        ("state", "{id}"),
        ("list", "--format", "json"),
        ("kill", "{id}", "KILL"),
        ("exec", "{id}", "/bin/true"),
        ("pause", "{id}"),
        ("resume", "{id}"),
        ("update", "--pids-limit", "50", "{id}"),
        ("delete", "{id}"),
        ("delete", "--force", "{id}"),
    )

    # A race in which nothing ever works shows nothing: on a machine that is busy it goes on until each has.
    MUST_WORK = ("create", "start", "state", "delete")

    def __init__(self, box, number: int, deadline: float, worked: set[str]) -> None:
        super().__init__()
        self.box = box
        self.random = random.Random(number)
        self.deadline = deadline
        self.worked = worked  # of all racers
        self.output = box.runtime.folder / f"racer{number}"
        self.problems: list[str] = []
        self.answers: dict[tuple[str, bool], int] = {}

    def run(self) -> None:
        while (now := time.monotonic()) < self.deadline + 60:
            if now > self.deadline and self.worked.issuperset(self.MUST_WORK):
                break
            self.command(*self.random.choice(self.VERBS))

    def command(self, *words: str) -> None:
        runtime = self.box.runtime
        words = tuple(word.format(id=self.box.id, bundle=self.box.bundle.path) for word in words)
        files = Path(f"{self.output}.out"), Path(f"{self.output}.err")
        with open(files[0], "wb") as out, open(files[1], "wb") as err:
            command = [runtime.executable.path, "--root", str(runtime.root), *words]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=ENVIRONMENT, cwd=runtime.folder
            )
        try:
            code = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.problems.append(f"{words} did not end")
            return
        said = files[1].read_text(errors="replace")
        if code == 0:
            self.worked.add(words[0])
        self.answers[words[0], code == 0] = self.answers.get((words[0], code == 0), 0) + 1
        if any(word in said for word in BUGS) or code < 0 or (code and len(said.splitlines()) != 1):
            # 137: the container was killed while exec's process ran
            if not (words[0] == "exec" and code == 137):
                self.problems.append(f"{words}: exit status {code}: {said}")
        elif not code and words[0] == "state":
            self.judge_state(json.loads(files[0].read_text()))

    def judge_state(self, state: dict) -> None:
        if state["id"] != self.box.id or not state["bundle"] or not state["ociVersion"]:
            self.problems.append(f"half a state: {state}")
        pid = state.get("pid", 0)
        if pid:
            try:
                mine = self.box.config["linux"]["cgroupsPath"] in proc.read(pid, "cgroup")
            except (FileNotFoundError, ProcessLookupError):
                return  # gone meanwhile
            # Before init has entered its cgroup, and after it has left it as a zombie.
            if not mine and state["status"] != "creating" and proc.process_state(pid) not in ("Z", "X", ""):
                self.problems.append(f"a wrong pid: {state}")


@pytest.mark.ours
def test_many_commands_on_one_container(container):
    """Every answer is a good one, and at the end nothing is left but what `delete --force` removes."""
    box = container(["/bin/sleep", "1000"])
    box.bundle.save()
    deadline = time.monotonic() + SECONDS
    worked: set[str] = set()
    racers = [Racer(box, number, deadline, worked) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    answers: dict[tuple[str, bool], int] = {}
    for key, count in itertools.chain.from_iterable(racer.answers.items() for racer in racers):
        answers[key] = answers.get(key, 0) + count
    shown = {f"{verb} {'done' if good else 'refused'}": count for (verb, good), count in sorted(answers.items())}
    print(f"{sum(answers.values())} commands: {shown}")
    problems = [problem for racer in racers for problem in racer.problems]
    assert not problems, "\n".join(problems[:20])
    assert worked.issuperset(Racer.MUST_WORK), shown
    box.delete("--force")
    leaks.reap()

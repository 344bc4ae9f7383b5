"""Signals for all of a container, and the numbers of processes that have ended.

Without a pid namespace `kill --all`, `kill ID KILL` and `delete --force` send a signal to each pid of cgroup.procs. By
the time it is sent, the process may have ended and its number may be that of a process of somebody else's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import attack, kernel, leaks
from support.config import drop_namespace
from support.runtime import CHECKOUT

TOPS = [top for top in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.isdir(top)]

# Runs as the first process of a pid namespace: a member of the cgroup ends right after cgroup.procs was read for the
# Nth time, and its number goes to a bystander, by ns_last_pid as criu restores pids. The kernel is the real one.
INTERLEAVED = """
import os, signal, sys, time
sys.path[:0] = {path!r}
from pyruntime.cgroupfs import kill, processes

function, nth, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def sleeper(directory=""):
    pid = os.fork()
    if pid == 0:
        if directory:
            with open(directory + "/cgroup.procs", "w") as file:
                file.write("0")
        os.write(write_end, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(read_end, 1)
    return pid

read_end, write_end = os.pipe()
member = sleeper(directory)
other = sleeper(directory)
listed = processes.of
calls = 0

def recycling(cgroups):
    global calls
    found = listed(cgroups)
    calls += 1
    if calls == nth:
        assert member in found
        os.kill(member, signal.SIGKILL)
        os.waitpid(member, 0)
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(member - 1))
        assert sleeper() == member, "the number was not given again"
    return found

processes.of = recycling
if function == "signal_all":
    kill.signal_all({{"pids": directory}}, signal.SIGTERM)
else:
    kill.kill_all({{"pids": directory}})
assert calls >= nth
pid, status = os.waitpid(other, 0)
assert os.WIFSIGNALED(status), "the other member got no signal"
time.sleep(0.05)
pid, status = os.waitpid(member, os.WNOHANG)
print("killed" if pid else "lives")
if not pid:
    os.kill(member, signal.SIGKILL)
    os.waitpid(member, 0)
"""


@pytest.fixture
def cgroup():
    """A cgroup for processes that no runtime has made."""
    directory = Path(TOPS[0]) / f"{leaks.PREFIX}-recycled"
    directory.mkdir()
    yield directory
    directory.rmdir()


@pytest.mark.ours
@pytest.mark.parametrize(("function", "nth"), [("signal_all", 1), ("kill_all", 2)])
def test_a_number_that_is_given_again_between_list_and_signal(cgroup, function, nth):
    script = INTERLEAVED.format(path=[str(CHECKOUT), attack.site()])
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script, function, str(nth), cgroup]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.returncode) == ("lives\n", 0), result.stderr


# Runs as the first process of a pid namespace with few numbers: bystanders come and go, and the runtime sends signals
# to all of a container in which processes come and go, too. Prints how many bystanders there were, and how many of
# them got a signal.
BYSTANDERS = """
import json, os, signal, subprocess, sys, time

create, start, kill, delete, seconds = json.loads(sys.argv[1])
with open("/proc/sys/kernel/pid_max", "w") as file:
    file.write("450")
subprocess.run(create, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
subprocess.run(start, check=True)
time.sleep(0.2)
until = time.monotonic() + seconds
running, hit, bystanders, signals = None, 0, 0, 0
alive = set()
try:
    while time.monotonic() < until:
        if running is None or running.poll() is not None:
            running = subprocess.Popen(kill)
            signals += 1
        while len(alive) < 60:
            pid = os.fork()
            if pid == 0:
                time.sleep(0.05)
                os._exit(0)
            alive.add(pid)
            bystanders += 1
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                hit += os.WIFSIGNALED(status)
finally:
    if running is not None:
        running.wait()
    subprocess.run(delete, check=True)
print(json.dumps([bystanders, signals, hit]))
"""
# So slow between the list and the signals that most numbers are given again meanwhile.
SLOW = """
import time
def slow(cgroups):
    found = old(cgroups)
    time.sleep(0.2)
    return found
old = replace("cgroupfs.processes.of", slow)
"""


@pytest.mark.ours
@pytest.mark.skipif(kernel.VERSION < (6, 14), reason="kernel.pid_max is of the whole host before Linux 6.14")
def test_bystanders_get_no_signal(container, weakened):
    box = container(sh='trap "" USR1; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do while :; do /bin/true; done & done; wait')
    drop_namespace(box.config, "pid")
    box.config["mounts"] = [one for one in box.config["mounts"] if one["type"] != "proc"]
    box.runtime = weakened(SLOW)
    box.bundle.save()
    command = [box.runtime.executable.path, "--root", str(box.runtime.root)]
    words = [
        [*command, "create", "--bundle", str(box.bundle.path), box.id],
        [*command, "start", box.id],
        [*command, "kill", "--all", box.id, "USR1"],
        [*command, "delete", "--force", box.id],
        8 * attack.THOROUGH,
    ]
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", BYSTANDERS, json.dumps(words)]
    result = subprocess.run(inside, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    bystanders, signals, hit = json.loads(result.stdout)
    print(f"{bystanders} bystanders, {signals} signals to all, {hit} hit", file=sys.stderr)
    assert bystanders > 200
    assert signals > 0  # each takes seconds on a busy machine
    assert hit == 0

"""Containers of a pod: one joins the user and the pid namespace that another has made."""

from __future__ import annotations

import subprocess

import pytest
from support import proc
from support.config import map_ids, set_namespace


@pytest.fixture
def pod():
    """The pid of a process that is the first of a pid namespace in a user namespace with the maps of `map_ids()`."""
    process = subprocess.Popen(
        ["unshare", "--user", "--pid", "--fork", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process.pid}/{name}", "w") as file:
            file.write("0 200000 65536")
    (first,) = proc.children(process.pid)
    yield first
    process.kill()
    subprocess.run(["kill", "-9", str(first)], check=False)
    process.stdout.close()
    process.wait()


def test_user_and_pid_namespaces_by_path(container, pod):
    """The pid in the record is the host's, not the one in the joined namespace: `kill` would meet a stranger."""
    box = container(["/bin/sleep", "100"])
    map_ids(box.config)
    set_namespace(box.config, "user", f"/proc/{pod}/ns/user")
    set_namespace(box.config, "pid", f"/proc/{pod}/ns/pid")
    box.bundle.chown(200000, 200000)
    box.create()
    box.start()
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    for kind in ("user", "pid"):
        assert box.namespace(kind) == proc.namespace(pod, kind)
    inside = box.process_status()["NSpid"].split()
    assert inside[0] == str(box.pid)
    assert len(inside) == 2 and inside[1] != inside[0]

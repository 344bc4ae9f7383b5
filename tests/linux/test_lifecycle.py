"""create, start, state, kill, delete: the life of a container, and what each command refuses.

Source: runtime-spec runtime.md, "Lifecycle" and "Operations".
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from support import proc
from support.leaks import PREFIX

# init of a pid namespace gets a signal only when it has a handler for it: pid_namespaces(7).
TRAP = 'trap "echo got term; exit 42" TERM; echo ready; while :; do sleep 0.02; done'


def test_status_follows_the_process(container):
    """creating is never seen from outside; created, running, stopped are."""
    box = container(sh=TRAP)
    box.create()
    assert box.status() == "created"
    assert box.output() == "", "the process ran before start"
    box.start()
    assert box.status() == "running"
    box.await_output("ready")
    box.kill("TERM")
    assert box.wait() == 42
    assert box.status() == "stopped"
    box.delete()
    assert box.runtime.run("state", box.id, check=None).code != 0


def test_a_zombie_is_stopped(container):
    """An init that ended counts as stopped before its parent has reaped it."""
    box = container(sh="exit 3")
    box.create()
    box.start()
    proc.wait_until(lambda: proc.process_state(box.pid) == "Z", "init is a zombie")
    assert box.status() == "stopped"
    assert box.wait() == 3


def test_state_has_what_the_specification_asks_for(container):
    """runtime.md, "State"."""
    box = container(["/bin/sleep", "100"], annotations={"org.example.key": "value", "empty": ""})
    box.create()
    state = box.state()
    assert state["id"] == box.id
    assert state["pid"] == box.pid
    assert state["bundle"] == str(box.bundle.path)
    assert state["annotations"] == {"org.example.key": "value", "empty": ""}
    assert state["ociVersion"].startswith("1.")


def test_state_of_a_stopped_container_has_no_live_pid(container):
    """pid is required in created and running only; 0 or absent afterwards."""
    box = container(["/bin/true"])
    box.create()
    box.start()
    box.wait()
    assert not box.state().get("pid")


def test_state_does_not_read_the_bundle_again(container):
    """The config may have changed, or be gone, since create."""
    box = container(["/bin/sleep", "100"], annotations={"kept": "yes"})
    box.create()
    box.bundle.config_file.unlink()
    assert box.state()["annotations"] == {"kept": "yes"}
    box.start()
    assert box.status() == "running"
    box.kill("KILL")
    assert box.wait() == 137
    box.delete()


def test_bundle_is_the_working_directory_by_default(container):
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    box.runtime.run("create", box.id, cwd=box.bundle.path)
    assert box.state()["bundle"] == str(box.bundle.path)


def test_bundle_by_a_relative_path(container):
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    box.runtime.run("create", "-b", box.bundle.path.name, box.id, cwd=box.bundle.path.parent)
    assert box.state()["bundle"] == str(box.bundle.path)


def test_pid_file_is_there_when_create_returns(container):
    """containerd and conmon read it at once: it holds the number alone."""
    box = container(["/bin/sleep", "100"])
    box.create()
    assert box.pid_file.read_text() == str(box.pid)
    assert proc.process_state(box.pid) in ("S", "R")
    names = [path.name for path in box.pid_file.parent.glob("*pid*")]
    assert names == [box.pid_file.name], "a temporary file is left"


@pytest.mark.differs(crun="crun 1.8.1 enters the bundle first")
def test_pid_file_of_a_relative_path_is_below_the_working_directory(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    box.runtime.run("create", "--bundle", box.bundle.path, "--pid-file", "here.pid", box.id, cwd=tmp_path)
    assert int((tmp_path / "here.pid").read_text()) == box.state()["pid"]


@pytest.mark.differs(crun="crun 1.8.1 writes to the file in place")
def test_pid_file_does_not_follow_a_symlink_to_a_file(container, tmp_path):
    """runc replaces the link, ours refuses it."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    box = container(["/bin/sleep", "100"])
    box.pid_file.symlink_to(victim)
    box.create(check=1 if box.runtime.is_ours else 0)
    assert victim.read_text() == "untouched"


def test_create_leaves_one_process_and_it_is_init(container):
    """No daemon stays between init and the caller: init reparents to the subreaper above create."""
    before = set(proc.children())
    box = container(["/bin/sleep", "100"])
    box.create()
    assert set(proc.children()) - before == {box.pid}
    assert proc.parent(box.pid) == os.getpid()


def test_init_is_pid_1(container):
    box = container(sh="echo $$")
    assert box.run().stdout == "1\n"


def test_start_runs_exactly_args(container):
    box = container(["/bin/echo", "a b", "", "$HOME", "*"])
    assert box.run().stdout == "a b  $HOME *\n"


def test_start_twice_is_refused(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    result = box.start(check=None)
    assert result.code != 0
    assert result.stderr.strip()
    assert box.status() == "running"


def test_start_of_a_stopped_container_is_refused(container):
    box = container(["/bin/true"])
    box.create()
    box.start()
    box.wait()
    assert box.start(check=None).code != 0


def test_start_does_not_hang_when_init_was_killed_before(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    os.kill(box.pid, signal.SIGKILL)
    box.wait()
    assert box.start(check=None, timeout=10).code != 0
    assert box.status() == "stopped"
    box.delete()


def test_start_does_not_hang_when_init_is_an_unreaped_zombie(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    os.kill(box.pid, signal.SIGKILL)
    proc.wait_until(lambda: proc.process_state(box.pid) == "Z", "init is a zombie")
    assert box.start(check=None, timeout=10).code != 0


@pytest.mark.differs(crun="crun 1.8.1 quotes the errno of its status file")
@pytest.mark.parametrize("verb", ["start", "state", "kill", "delete"])
def test_unknown_id(runtime, verb):
    """The shim of containerd looks for these words."""
    result = runtime.run(verb, f"{PREFIX}-nobody", check=None)
    assert result.code != 0
    assert "does not exist" in result.stderr


def test_delete_force_of_an_unknown_id_succeeds(runtime):
    """podman and containerd delete once more, to be sure."""
    runtime.run("delete", "--force", f"{PREFIX}-nobody")


@pytest.mark.parametrize("verb", ["create", "start", "state", "kill", "delete"])
def test_the_id_is_required(runtime, verb):
    assert runtime.run(verb, check=None).code != 0


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/", "../x", "a b", "a\nb", "ä"])
def test_ids_that_could_be_paths_are_refused(bundle, runtime, request, name):
    if name in ("a b", "a\nb", "ä", ".") and runtime.kind == "crun":
        pytest.skip("crun 1.8.1 takes it")
    made = bundle()
    made.save()
    result = runtime.run("create", "--bundle", made.path, name, check=None)
    assert result.code != 0
    assert not list(runtime.folder.glob("root/*")), "state was made for it"


@pytest.mark.parametrize("name", ["a", "A.b_c-d+e", "0"])
def test_ids_that_engines_use_are_taken(container, name):
    box = container()
    box.id = f"{PREFIX}{name}"
    box.run()


def test_a_used_id_is_refused_and_the_first_container_goes_on(container, bundle):
    box = container(["/bin/sleep", "100"])
    box.create()
    pid = box.pid
    other = bundle()
    other.save()
    result = box.runtime.run("create", "--bundle", other.path, box.id, check=None)
    assert result.code != 0
    assert box.id in result.stderr or "exist" in result.stderr
    assert box.status() == "created"
    assert box.state()["pid"] == pid
    box.start()
    box.kill("KILL")
    assert box.wait() == 137


def test_a_deleted_id_is_free_again(container):
    box = container(["/bin/true"])
    for _ in range(2):
        box.create()
        box.start()
        box.wait()
        box.delete()


@pytest.mark.differs(runc="runc 1.1.5 lets several win: it checks the id before it locks it", sometimes=True)
def test_two_creates_of_one_id_at_once(container, bundle):
    """Exactly one wins, and its container works."""
    box = container(sh="echo fine")
    box.bundle.save()
    command = ("create", "--bundle", box.bundle.path, box.id)
    attempts = [box.runtime.spawn(*command) for _ in range(4)]
    results = [attempt.wait() for attempt in attempts]
    winners = [result for result in results if result.code == 0]
    assert len(winners) == 1, "\n".join(map(str, results))
    assert box.status() == "created"
    box.start()
    proc.wait_until(lambda: winners[0].stdout == "fine\n", "the winner's process runs")


def test_delete_running_is_refused(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    assert box.delete(check=None).code != 0
    assert box.status() == "running"
    assert proc.process_state(box.pid) in ("S", "R")


def test_delete_force_kills(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    box.delete("--force")
    assert box.wait() == 137
    assert box.runtime.run("state", box.id, check=None).code != 0


def test_delete_created(container):
    """runc and crun take it, and engines rely on it, though the specification asks for stopped."""
    box = container(["/bin/sleep", "100"])
    box.create()
    box.delete("-f")
    assert box.wait() == 137


def test_delete_force_of_a_stopped_container(container):
    box = container(["/bin/true"])
    box.create()
    box.start()
    box.wait()
    box.delete("--force")
    assert not list(box.runtime.root.glob(box.id))


def test_delete_leaves_the_bundle_alone(container):
    box = container(sh="echo kept > /kept")
    box.run()
    assert (box.rootfs / "kept").read_text() == "kept\n"
    assert box.bundle.config_file.exists()


def test_a_recycled_pid_is_not_taken_for_init(container, tmp_path):
    """Another process with init's pid is not the container: the record holds the start time too."""
    box = container(["/bin/true"])
    box.create()
    box.start()
    pid = box.pid
    box.wait()
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # the unit of start times
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    other = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
    try:
        if other != pid:
            pytest.skip("another process of this machine took the pid first")
        assert box.status() == "stopped"
        box.kill("KILL", check=None)
        assert proc.process_state(other) in ("S", "R"), "a stranger was killed"
        box.delete("--force")
        assert proc.process_state(other) in ("S", "R"), "a stranger was killed"
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)

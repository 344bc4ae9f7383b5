"""Hooks of all six kinds: when they run, in which namespaces, what they get, and what follows from a failure.

Source: runtime-spec config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import proc
from support.config import bind

AT_CREATE = ("prestart", "createRuntime", "createContainer")
OF_RUNTIME = ("prestart", "createRuntime", "poststart", "poststop")
ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture
def out(runtime) -> Path:
    """A directory of the host that hooks write into; in a container with `share()` it is /out."""
    path = runtime.folder / "out"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    return path


def share(box, out: Path) -> None:
    (box.rootfs / "out").mkdir()
    bind(box.config, out, "/out")


def hook(script: str, **fields) -> dict:
    """A hook that runs a shell script; the shell is at the same path on the host and in the container."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **fields}


def where(kind: str, out: Path) -> str:
    """The directory `out` as a hook of this kind sees it."""
    return "/out" if kind == "startContainer" else str(out)


def add(box, kind: str, *hooks: dict) -> None:
    box.config.setdefault("hooks", {}).setdefault(kind, []).extend(hooks)


@pytest.mark.differs(runc="runc 1.1.5 runs poststart at the end of create")
def test_moments(container, out):
    """Every kind runs once, in the order of the lifecycle, around the user's process."""
    box = container(sh="echo process >> /out/log; sleep 100")
    share(box, out)
    for kind in ALL:
        add(box, kind, hook(f"echo {kind} >> {where(kind, out)}/log"))
    log = out / "log"
    box.create()
    assert log.read_text().split() == ["prestart", "createRuntime", "createContainer"]
    box.start()
    proc.wait_until(lambda: len(log.read_text().split()) == 6, "start's hooks and the process have run")
    lines = log.read_text().split()
    assert lines[3] == "startContainer"
    assert set(lines[4:]) == {"process", "poststart"}
    box.kill("KILL")
    box.wait()
    assert "poststop" not in log.read_text()
    box.delete()
    assert log.read_text().split()[6:] == ["poststop"]


@pytest.mark.differs(runc="runc 1.1.5 runs poststart at the end of create")
def test_moments_of_run(container, out):
    """In the foreground all of them have run when `run` ends."""
    box = container(sh="echo process >> /out/log; sleep 0.2")
    share(box, out)
    for kind in ALL:
        add(box, kind, hook(f"echo {kind} >> {where(kind, out)}/log"))
    box.run()
    lines = (out / "log").read_text().split()
    assert lines[:4] == ["prestart", "createRuntime", "createContainer", "startContainer"]
    assert set(lines[4:6]) == {"process", "poststart"}
    assert lines[6:] == ["poststop"]


@pytest.mark.parametrize("kind", ALL)
def test_namespaces(container, out, kind):
    """Runtime namespaces for four kinds, the container's for createContainer and startContainer."""
    box = container(["/bin/sleep", "100"])
    share(box, out)
    file = f"{where(kind, out)}/ns"
    # Before the root changes the only /proc may be the host's, where `self` still works.
    script = "; ".join(f"readlink /proc/self/ns/{name} >> {file}.tmp" for name in ("mnt", "net", "uts", "ipc"))
    add(box, kind, hook(f"{script}; mv {file}.tmp {file}"))
    box.create()
    inside = [box.namespace(name) for name in ("mnt", "net", "uts", "ipc")]
    box.start()
    if kind == "poststop":
        box.delete("--force")
    proc.wait_until((out / "ns").exists, "the hook has run")
    outside = [proc.namespace("self", name) for name in ("mnt", "net", "uts", "ipc")]
    seen = (out / "ns").read_text().split()
    if box.runtime.kind == "crun" and kind in OF_RUNTIME:
        seen, outside = seen[1:], outside[1:]  # the harness runs crun in a mount namespace of its own
    assert seen == (outside if kind in OF_RUNTIME else inside)


STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}


OTHER_STATUS = {
    "prestart": {"crun": "crun 1.8.1 says created"},
    "createRuntime": {"crun": "crun 1.8.1 says created"},
    "createContainer": {"crun": "crun 1.8.1 says created"},
    "startContainer": {"crun": "crun 1.8.1 says starting"},
    "poststart": {"runc": "runc 1.1.5 says created"},
    "poststop": {},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.differs(**other)) for kind, other in OTHER_STATUS.items()]
)
def test_state_on_stdin(container, out, kind):
    """runtime.md, "State": the same object as the command `state` prints."""
    box = container(["/bin/sleep", "100"], annotations={"org.example": "seen"})
    box.config["ociVersion"] = "1.1.0"
    share(box, out)
    file = f"{where(kind, out)}/state"
    add(box, kind, hook(f"cat > {file}.tmp; mv {file}.tmp {file}"))
    box.create()
    pid = box.pid
    box.start()
    if kind == "poststop":
        box.delete("--force")
    proc.wait_until((out / "state").exists, "the hook has run")
    state = json.loads((out / "state").read_text())
    assert state["id"] == box.id
    assert state["status"] == STATUS[kind]
    assert state["bundle"] == str(box.bundle.path)
    assert state["annotations"] == {"org.example": "seen"}
    assert state["ociVersion"].startswith("1.")
    if kind in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == pid
    elif kind == "startContainer":
        assert state["pid"] in (1, pid)


def test_prestart_may_equip_the_network_namespace(container):
    """Docker's whole network is made by such a hook: it enters by the pid of the state on its stdin."""
    script = """
        pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')
        exec nsenter --net=/proc/$pid/ns/net ip link add veth-a type veth peer name veth-b
    """
    box = container(sh="ls /sys/class/net")
    add(box, "prestart", hook(script, env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]))
    assert set(box.run().stdout.split()) >= {"lo", "veth-a", "veth-b"}


def test_create_container_hook_sees_mounts_and_the_old_root(container, out):
    """It runs when the container's mounts are there and before the root changes."""
    box = container()
    add(
        box,
        "createContainer",
        hook(f"cat /proc/self/mountinfo > {out}/mounts; cat /etc/hostname > /dev/null"),
    )
    box.run()
    targets = {one.target for one in proc.parse_mountinfo((out / "mounts").read_text())}
    assert {f"{box.rootfs}{path}" for path in ("/proc", "/dev", "/dev/pts", "/sys")} <= targets


def test_start_container_hook_is_looked_up_in_the_container(container, out):
    box = container()
    share(box, out)
    box.bundle.write("only-inside", "#!/bin/sh\necho $0 $$ > /out/seen\n", 0o755)
    add(box, "startContainer", {"path": "/only-inside", "args": ["/only-inside"]})
    box.run()
    name, pid = (out / "seen").read_text().split()
    assert name == "/only-inside"
    assert int(pid) > 1


@pytest.mark.parametrize("kind", ALL)
def test_environment(container, out, kind):
    """`env` is the whole environment, and none of the runtime's."""
    box = container()
    share(box, out)
    add(box, kind, hook(f"env > {where(kind, out)}/env", env=["A=1", "B=two words", "PATH=/usr/bin:/bin"]))
    box.run()
    seen = set((out / "env").read_text().splitlines())
    assert {"A=1", "B=two words", "PATH=/usr/bin:/bin"} <= seen
    assert {line.partition("=")[0] for line in seen} <= {"A", "B", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}


CRUN = pytest.mark.differs(crun="crun 1.8.1 hands its own environment on")
RUNTIMES = {"OUTSIDE=leaks"}


@pytest.mark.parametrize(
    ("kind", "expected", "absent"),
    [
        ("prestart", RUNTIMES, "FROM_CONFIG=1"),
        ("createRuntime", RUNTIMES, "FROM_CONFIG=1"),
        pytest.param("createContainer", {"FROM_CONFIG=1"}, "OUTSIDE=leaks", marks=CRUN),
        ("startContainer", {"FROM_CONFIG=1", "HOME=/home/ham"}, "OUTSIDE=leaks"),
        ("poststart", RUNTIMES, "FROM_CONFIG=1"),
        ("poststop", RUNTIMES, "FROM_CONFIG=1"),
    ],
)
def test_a_hook_without_an_environment_has_its_surroundings(container, out, kind, expected, absent):
    """Of the runtime on the host, of config.json in the container, as with runc; an empty one is empty."""
    box = container()
    share(box, out)
    box.process["env"].append("FROM_CONFIG=1")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    for number, env in enumerate((None, [])):
        one = hook(f"/usr/bin/env > {where(kind, out)}/env{number}")
        if kind == "startContainer":
            one["args"][2] = f"/bin/env > /out/env{number}"
        one["env"] = env
        if env is None:
            del one["env"]
        add(box, kind, one)
    box.run()
    seen = set((out / "env0").read_text().splitlines())
    assert expected <= seen
    assert absent not in seen
    of_the_shell = {"PWD", "SHLVL", "_", "OLDPWD", "PATH"}
    assert {line.partition("=")[0] for line in (out / "env1").read_text().splitlines()} <= of_the_shell


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.differs(crun="crun 1.8.1 starts it in the bundle"))
        if kind == "createContainer"
        else kind
        for kind in ALL
    ],
)
@pytest.mark.parametrize("caller", ["elsewhere", "gone"])
def test_working_directory(container, out, runtime, kind, caller):
    """The bundle; the rootfs for createContainer, process.cwd for startContainer: wherever the caller is."""
    if caller == "gone" and not runtime.is_ours:
        pytest.skip("runc and crun ask for the name of the caller's directory")
    box = container()
    share(box, out)
    box.process["cwd"] = "/srv"
    add(box, kind, hook(f"pwd > {where(kind, out)}/cwd"))
    wrap = ["sh", "-c", 'd=$(mktemp -d); cd "$d"; rmdir "$d"; exec "$@"', "sh"] if caller == "gone" else []
    box.run(cwd="/usr", wrap=wrap)
    expected = {"createContainer": str(box.rootfs), "startContainer": "/srv"}.get(kind, str(box.bundle.path))
    assert (out / "cwd").read_text() == f"{expected}\n"


@pytest.mark.ours
def test_a_poststop_hook_of_a_bundle_that_is_gone(container, out):
    """It cleans up all the same; start and delete are called from another directory than create."""
    box = container(["/bin/sleep", "1000"])
    share(box, out)
    add(box, "poststart", hook(f"pwd > {out}/start"))
    add(box, "poststop", hook(f"pwd > {out}/stop"))
    box.create()
    box.start(cwd="/usr")
    assert (out / "start").read_text() == f"{box.bundle.path}\n"
    box.kill("KILL")
    box.wait()
    moved = box.bundle.path.rename(f"{box.bundle.path}-moved")
    try:
        box.delete(cwd="/usr")
    finally:
        moved.rename(box.bundle.path)
    assert (out / "stop").read_text() == "/\n"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "poststop"])
def test_arguments(container, out, kind):
    """args[0] is a name only: `path` says what is run."""
    box = container()
    words = [
        "not-a-shell",
        "-c",
        f'for word in "$@"; do echo "[$word]"; done > {out}/args',
        "x",
        "a b",
        "",
        "*",
    ]
    add(box, kind, {"path": "/bin/sh", "args": words})
    box.run()
    assert (out / "args").read_text() == "[a b]\n[]\n[*]\n"


@pytest.mark.parametrize("kind", ["createRuntime", "poststop"])
def test_no_arguments(container, out, kind):
    """Without args the program has argv[0], its path: a program that writes what it is called."""
    program = out / "program"
    program.write_text(f"#!/bin/sh\necho $# > {out}/count\n")
    program.chmod(0o755)
    box = container()
    add(box, kind, {"path": str(program)})
    box.run()
    assert (out / "count").read_text() == "0\n"


@pytest.mark.differs(crun="crun 1.8.1 fails with a broken pipe", sometimes=True)
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_not_reading_stdin_is_fine(container, kind):
    """Nor is a state that is larger than a pipe: the hook ends, or closes its stdin, at once."""
    box = container(annotations={"large": "x" * 300_000})
    add(box, kind, {"path": "/bin/true"}, hook("exec <&-; sleep 0.05"))
    box.run()


@pytest.mark.parametrize("kind", AT_CREATE)
def test_several_run_in_order(container, out, kind):
    box = container()
    add(box, kind, *(hook(f"sleep 0.0{3 - number}; echo {number} >> {out}/log") for number in range(3)))
    box.run()
    assert (out / "log").read_text().split() == ["0", "1", "2"]


@pytest.mark.parametrize("kind", AT_CREATE)
def test_failure_at_create(container, out, kind):
    """create fails, the next hook does not run, the container is gone; the error says which hook and its
    words."""
    box = container()
    add(box, kind, hook("exit 0"), hook("echo because of this >&2; exit 3"), hook(f"echo > {out}/next"))
    result = box.create(check=None)
    assert result.code != 0
    assert not (out / "next").exists()
    assert not box.pid_file.exists()
    assert box.runtime.run("state", box.id, check=None).code != 0
    if box.runtime.is_ours:
        line = result.stderr.splitlines()[-1]
        assert f"/hooks/{kind}/1" in line
        assert "because of this" in line
        assert "3" in line


@pytest.mark.differs(crun="crun 1.8.1 runs no poststop hook then")
@pytest.mark.parametrize("kind", AT_CREATE)
def test_poststop_runs_after_a_failed_create(container, out, kind):
    """runtime.md, "Lifecycle": on failure, go to the step that destroys and runs poststop."""
    box = container()
    add(box, kind, hook("exit 1"))
    add(box, "poststop", hook(f"echo > {out}/poststop"))
    assert box.create(check=None).code != 0
    assert (out / "poststop").exists()


def test_failure_of_start_container(container):
    """The user's process does not run."""
    box = container(sh="echo process ran")
    add(box, "startContainer", hook("exit 1"))
    result = box.run(check=None)
    assert "process ran" not in result.stdout
    assert result.code != 0


@pytest.mark.differs(
    runc="runc 1.1.5 runs it at the end of create",
    crun="crun 1.8.1 only warns, as runtime-spec before 1.3 asks",
)
def test_failure_of_poststart(container):
    """An error since runtime-spec 1.3; what it says about the process after it is left to the runtime."""
    box = container(["/bin/sleep", "1"])
    box.config["ociVersion"] = "1.3.0"
    add(box, "poststart", hook("exit 1"))
    box.create()
    assert box.start(check=None).code != 0


@pytest.mark.ours
def test_failure_of_poststart_before_1_3(container):
    """Up to runtime-spec 1.2 a warning: the process goes on."""
    box = container(["/bin/sleep", "100"])
    box.config["ociVersion"] = "1.2.1"
    add(box, "poststart", hook("exit 1"))
    box.create()
    assert "poststart hook #0" in box.start().stderr
    assert box.state()["status"] == "running"


@pytest.mark.differs(runc="runc 1.1.5 stops at the first that fails")
def test_failure_of_poststop(container, out):
    """Only told: the container is deleted all the same, and the next hook runs."""
    box = container()
    add(box, "poststop", hook("exit 1"), hook(f"echo > {out}/next"))
    box.create()
    box.delete("--force")
    assert box.runtime.run("state", box.id, check=None).code != 0
    assert (out / "next").exists()


@pytest.mark.parametrize("kind", AT_CREATE)
def test_timeout(container, kind):
    """In seconds; the hook is killed, and create fails as if it had failed."""
    box = container()
    add(box, kind, hook("exec sleep 1000", timeout=1))
    result = box.create(check=None, timeout=10)
    assert result.code != 0
    if box.runtime.is_ours:
        line = result.stderr.splitlines()[-1]
        assert f"/hooks/{kind}/0" in line
        assert "time" in line


@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_hook_in_time_is_left_alone(container, kind):
    box = container()
    add(box, kind, hook("sleep 0.1", timeout=20))
    box.run()


@pytest.mark.parametrize("kind", AT_CREATE)
def test_missing_program(container, kind):
    box = container()
    add(box, kind, {"path": "/nosuch/hook"})
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/nosuch/hook" in result.stderr
        assert f"/hooks/{kind}/0" in result.stderr


@pytest.mark.differs(runc="runc 1.1.5 looks it up in its own PATH", crun="crun 1.8.1 runs it from the bundle")
def test_a_relative_path_is_refused(container):
    """config.md: path MUST be absolute."""
    box = container()
    add(box, "poststop", {"path": "true"})
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/hooks/poststop/0/path" in result.stderr


def test_a_hook_that_is_killed_is_a_failure(container):
    box = container()
    add(box, "createRuntime", hook("kill -KILL $$"))
    assert box.create(check=None).code != 0

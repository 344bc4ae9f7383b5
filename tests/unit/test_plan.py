"""Planning: pure, complete and in order; and what every reader of a plan relies on."""

from __future__ import annotations

import inspect
import json
import os
import platform
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import planning
from support.planning import config, named, request, steps, with_namespaces

from pyruntime.errors import ConfigError, StepError
from pyruntime.features import registry
from pyruntime.plan import step
from pyruntime.plan.step import INIT_PHASES, PHASES, Step

CHECKOUT = Path(__file__).resolve().parents[2]

# Runs build() on files with nothing left to ask the system with: a seccomp filter kills the process at any call
# but those for memory and for its own output. Before that an audit hook names what Python itself tells of.
PURE = r"""
import ctypes, posix, struct, sys
sys.path[:0] = sys.argv[1:3]
allowed = [int(number) for number in sys.argv[3].split(",")]

from support import planning
from pyruntime.features import registry

configs = [(path.name, planning.read(path)) for path in planning.CORPUS]
requests = [(name, planning.request(config)) for name, config in configs]
# What a planner imports when it is first called is no part of planning.
for path in planning.CORPUS:
    registry.build(planning.request(planning.read(path)))

def refuse(event, arguments):
    if watching and event.partition(".")[0] not in ("object", "sys", "gc"):
        sys.stderr.write(f"{event}{arguments!r}\n")
        sys.stderr.flush()
        raise AssertionError(event)

watching = False
sys.addaudithook(refuse)

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # struct sock_filter: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ, BPF_RET
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
code = [(LOAD, 0, 0, 0)]
code += [(EQUAL, len(allowed) - at, 0, number) for at, number in enumerate(allowed)]
code += [(RETURN, 0, 0, KILL_PROCESS), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
header = ctypes.create_string_buffer(struct.pack("HL", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None)
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
assert libc.prctl(38, 1, None, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, header, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

watching = True
for name, request in requests:
    print(name, sum(len(steps) for steps in registry.build(request).steps.values()), flush=True)
    if len(sys.argv) > 4:
        exec(sys.argv[4])
watching = False
print("done", flush=True)
posix._exit(0)
"""

# brk, mmap, munmap, mremap, mprotect, madvise, futex, write, rt_sigreturn, exit_group
MEMORY_AND_OUTPUT = {
    "x86_64": (12, 9, 11, 25, 10, 28, 202, 1, 15, 231),
    "aarch64": (214, 222, 215, 216, 226, 233, 98, 64, 139, 94),
}


def plan_apart(extra: str = "") -> subprocess.CompletedProcess[str]:
    """Plan the corpus in a process that can ask the system nothing; extra is code to run after each."""
    machine = platform.machine()
    if machine not in MEMORY_AND_OUTPUT:
        pytest.skip(f"the numbers of system calls on {machine} are not in this test")
    numbers = ",".join(map(str, MEMORY_AND_OUTPUT[machine]))
    command = [sys.executable, "-c", PURE, str(CHECKOUT), str(CHECKOUT / "tests"), numbers]
    return subprocess.run(command + ([extra] if extra else []), capture_output=True, text=True)


def test_planning_makes_no_system_call() -> None:
    result = plan_apart()
    assert result.returncode == 0, f"status {result.returncode} after:\n{result.stdout}{result.stderr}"
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [path.name for path in planning.CORPUS] + ["done"]
    assert all(int(line.split()[1]) > 20 for line in lines[:-1])


@pytest.mark.parametrize(
    "call",
    ["open('/dev/null')", "import posix; posix.getpid()", "import posix; posix.stat('/')", "import os; os.mkdir('/x')"],
)
def test_the_test_above_sees_a_system_call(call: str) -> None:
    """The modules are loaded; stat(2) and getpid(2) raise no audit event, so only the filter sees them."""
    assert plan_apart(call).returncode != 0


def test_the_corpus_is_there() -> None:
    assert len(planning.CORPUS) == 32


@pytest.fixture(scope="module", params=planning.CORPUS, ids=lambda path: path.stem)
def planned(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[tuple[str, Step]]]:
    found = planning.read(request.param)
    return found, steps(found)


def test_an_engines_config_has_a_whole_plan(planned: tuple[dict[str, Any], list[tuple[str, Step]]]) -> None:
    config, all_steps = planned
    names = [one.name for _, one in all_steps]
    assert names.count("root.prepare") == 1
    assert names[-1] == "program.execute"
    made = [one.pointer for _, one in all_steps if one.pointer.startswith("/mounts/")]
    # Every mount has its step, in the order of the file.
    first = sorted(set(made), key=made.index)
    wanted = [f"/mounts/{at}" for at in range(len(config["mounts"]))]
    assert [pointer for pointer in first if pointer.count("/") == 2] == wanted


def test_a_plan_does_not_change_its_config(planned: tuple[dict[str, Any], list[tuple[str, Step]]]) -> None:
    config, all_steps = planned
    before = json.dumps(config)
    again = steps(config)
    assert json.dumps(config) == before
    assert [one.to_json() for _, one in again] == [one.to_json() for _, one in all_steps]


def test_steps_travel_as_json(planned: tuple[dict[str, Any], list[tuple[str, Step]]]) -> None:
    for _, one in planned[1]:
        fields = json.loads(json.dumps(one.to_json()))
        back = step.from_json(fields)
        assert back.do is one.do
        assert back.pointer == one.pointer
        assert back.describe() == one.describe()
        assert list(back.to_json()) == fields


def test_steps_can_be_called_with_their_arguments(
    planned: tuple[dict[str, Any], list[tuple[str, Step]]],
) -> None:
    for _, one in planned[1]:
        inspect.signature(one.do).bind(None, **one.args)


def test_steps_take_the_actor_of_their_phase(planned: tuple[dict[str, Any], list[tuple[str, Step]]]) -> None:
    """The type checker knows no phases: a step of the parent in a phase of init would fail in the container."""
    of_init = {"HookActor", "InitActor"}
    of_parent = {"HookActor", "HasPid", "CgroupActor", "ParentActor"}
    for phase, one in planned[1]:
        actor = next(iter(one.do.__annotations__.values()))
        assert actor in (of_init if phase in INIT_PHASES else of_parent), f"{phase}: {one.name} takes {actor}"


def test_steps_describe_themselves(planned: tuple[dict[str, Any], list[tuple[str, Step]]]) -> None:
    for _, one in planned[1]:
        template = (one.do.__doc__ or "").partition("\n")[0]
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        assert fields <= set(one.args), f"{one.name}: {template}"
        shown = one.describe()
        assert shown.strip() == shown != ""
        assert not shown.endswith(".")
        # Braces of a template would be left over from a field that is none.
        for value in one.args.values():
            shown = shown.replace(step._shown(value), "")
        assert "{" not in shown and "}" not in shown, one.describe()


def test_pointers_are_of_fields_that_are_there(
    planned: tuple[dict[str, Any], list[tuple[str, Step]]],
) -> None:
    config, all_steps = planned
    for _, one in all_steps:
        planning.at(config, one.pointer)


def test_a_description_is_one_line_whatever_the_config_says() -> None:
    script = config(process={"cwd": "/", "args": ["/bin/sh", "-c", "echo {braces}\necho two"]}, hostname="a")
    for _, one in steps(script):
        assert "\n" not in one.describe(), one.name


def test_order_of_the_phases() -> None:
    """Who does what in which order is one list: docs/architecture.md has it as a table."""
    assert PHASES == (
        "prepare", "setup", "build", "hooks", "enter", "ready", "become", "spawned", "execute", "started", "stopped",
    )  # fmt: skip
    assert [phase for phase in PHASES if phase in INIT_PHASES] == list(INIT_PHASES)
    phases = [phase for phase, _ in registry.FEATURES]
    assert phases == sorted(phases, key=PHASES.index)


SMALL = {
    "ociVersion": "1.2.0",
    "hostname": "box",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "cwd": "/work",
        "args": ["sh"],
        "env": ["PATH=/bin"],
        "noNewPrivileges": True,
        "oomScoreAdj": 100,
        "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
        "capabilities": {"bounding": ["CAP_CHOWN"]},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=1m"]},
    ],
    "hooks": {
        "createRuntime": [{"path": "/bin/r"}],
        "createContainer": [{"path": "/bin/c"}],
        "startContainer": [{"path": "/bin/s"}],
        "poststop": [{"path": "/bin/p"}],
    },
    "linux": {
        "namespaces": [
            {"type": "mount"},
            {"type": "uts"},
            {"type": "network"},
            {"type": "cgroup"},
            {"type": "ipc", "path": "/proc/1/ns/ipc"},
        ],
        "sysctl": {"net.core.somaxconn": "9"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}

DEVICES = [("build", "devices.make", "")] * 6 + [("build", "devices.make_link", "")] * 4
GOLDEN = [
    ("setup", "affinity.reset", ""),
    ("setup", "oom_score_adj.set_score", "/process/oomScoreAdj"),
    ("build", "namespaces.make_cgroup_namespace", "/linux/namespaces/3"),
    ("build", "namespaces.join", "/linux/namespaces/4"),
    ("build", "keyring.join", ""),
    ("build", "loopback.raise_loopback", "/linux/namespaces"),
    ("build", "root.prepare", "/root/path"),
    ("build", "mounts.mount_filesystem", "/mounts/0"),
    ("build", "mounts.mount_filesystem", "/mounts/1"),
    *DEVICES,
    ("build", "devices.link_ptmx", ""),
    ("hooks", "hooks.run", "/hooks/createRuntime/0"),
    ("enter", "hooks.run", "/hooks/createContainer/0"),
    ("enter", "program.make_cwd", "/process/cwd"),
    ("enter", "sysctl.write", "/linux/sysctl/net.core.somaxconn"),
    ("enter", "hostname.set_hostname", "/hostname"),
    ("enter", "mounts.make_readonly", "/mounts/1/options"),
    ("enter", "masks.make_readonly", "/linux/readonlyPaths/0"),
    ("enter", "masks.mask", "/linux/maskedPaths/0"),
    ("enter", "null_device.reopen", ""),
    ("enter", "root.pivot", "/root/path"),
    ("enter", "root.make_readonly", "/root/readonly"),
    ("enter", "user.set_umask", ""),
    ("enter", "user.set_no_new_privileges", "/process/noNewPrivileges"),
    ("ready", "rlimits.set_limit", "/process/rlimits/0"),
    ("become", "program.keep_descriptors", ""),
    ("become", "program.reset_signals", ""),
    ("become", "program.set_environment", "/process/env"),
    ("become", "program.change_directory", "/process/cwd"),
    ("become", "capabilities.limit", "/process/capabilities/bounding"),
    ("become", "user.own_stdio", "/process/user"),
    ("become", "user.set_groups", "/process/user/additionalGids"),
    ("become", "user.set_gid", "/process/user/gid"),
    ("become", "user.set_uid", "/process/user/uid"),
    ("become", "program.change_directory_as_user", "/process/cwd"),
    ("become", "capabilities.apply", "/process/capabilities"),
    ("become", "program.set_home", "/process/env"),
    ("become", "program.find", "/process/args/0"),
    ("execute", "hooks.run", "/hooks/startContainer/0"),
    ("execute", "program.execute", "/process/args"),
]


def test_a_small_config_step_by_step() -> None:
    """The cgroup's steps depend on the hierarchies of this host, and have tests of their own."""
    found = [
        (phase, one.name, one.pointer)
        for phase, one in steps(SMALL)
        if not one.do.__module__.startswith("pyruntime.features.cgroups")
    ]
    assert found == GOLDEN


def test_a_small_config_in_words() -> None:
    said = [one.describe() for _, one in steps(SMALL)]
    assert "set the additional groups to none" in [one.describe() for _, one in steps(config())]
    for line in (
        "set oom_score_adj to 100",
        "join the ipc namespace /proc/1/ns/ipc",
        "bind the rootfs /bundle/rootfs on itself",
        "mount tmpfs on /tmp",
        "set sysctl net.core.somaxconn to 9",
        "set the hostname to box",
        "mask /proc/kcore",
        "set RLIMIT_NOFILE to soft 10, hard 20",
        "become uid 1",
        "run the startContainer hook 0: /bin/s",
        "execute sh",
    ):
        assert line in said


def test_the_least_that_a_container_gets() -> None:
    """No namespaces: chroot, never a pivot of the host's root; and nothing of the host's is set."""
    names = [one.name for _, one in steps(config())]
    assert "root.change_root" in names
    assert not {"root.pivot", "no_pivot.move_root", "hostname.set_hostname", "loopback.raise_loopback"} & set(names)


def test_no_pivot() -> None:
    mine = with_namespaces("mount")
    assert len(named(mine, "root.pivot")) == 1
    assert len(named(mine, "no_pivot.move_root", pivot=False)) == 1
    assert not named(mine, "root.pivot", pivot=False)


def test_without_a_process() -> None:
    """runtime-spec config.md, "Process": it is needed by `start` only."""
    names = [one.name for _, one in steps(config(process=None))]
    assert "program.execute" not in names
    assert "root.prepare" in names


def test_the_command_line_reaches_the_plan() -> None:
    mine = config()
    assert not named(mine, "keyring.join", new_keyring=False)
    (execute,) = named(mine, "program.execute", preserve_fds=3)
    assert execute.args["preserve_fds"] == 3


@pytest.mark.parametrize(
    ("broken", "pointer", "words"),
    [
        (config(root=None), "/root", "required"),
        (config(mounts=[{"destination": "/a", "type": "bind"}]), "/mounts/0/source", "missing"),
        (with_namespaces("user"), "/linux/uidMappings", "required"),
        (
            with_namespaces("user", uidMappings=[{"containerID": 0, "hostID": 1, "size": 1}]),
            "/linux/gidMappings",
            "required",
        ),
        (config(linux={"sysctl": {"net.x": "1"}}), "/linux/sysctl/net.x", "namespace of the container's own"),
        (
            with_namespaces("network", sysctl={"net/ipv4/ip_forward": "1", "vm/swappiness": "1"}),
            "/linux/sysctl/vm~1swappiness",
            "not in a separate kernel namespace",
        ),
        (with_namespaces("uts", sysctl={"kernel.hostname": "a"}), "/linux/sysctl/kernel.hostname", "hostname"),
    ],
)
def test_what_cannot_be_planned(broken: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        steps(broken)
    assert caught.value.pointer == pointer


class Actor:
    """What execute() needs of an actor."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.traced: list[str] = []
        self.trace: Any = None


def note(actor: Actor, word: str) -> None:
    """note {word}"""
    actor.done.append(word)


def fail(actor: Actor, path: str) -> None:
    """open {path}"""
    os.open(path, os.O_RDONLY)


def refuse(actor: Actor, own: str = "") -> None:
    """refuse"""
    raise ConfigError("will not", pointer=own or None)


def test_execute_does_the_steps_in_order() -> None:
    actor = Actor()
    step.execute([Step("", note, word="a"), Step("", note, word="b")], actor)
    assert actor.done == ["a", "b"]


def test_execute_tells_of_each_step_before_it() -> None:
    actor = Actor()
    actor.trace = lambda one: actor.traced.append(f"{len(actor.done)} {one.describe()}")
    step.execute([Step("", note, word="a"), Step("", note, word="b")], actor)
    assert actor.traced == ["0 note a", "1 note b"]


def test_execute_stops_at_the_first_that_fails() -> None:
    actor = Actor()
    todo = [Step("/a", note, word="a"), Step("/mounts/3", fail, path="/no/such"), Step("/b", note, word="b")]
    with pytest.raises(StepError) as caught:
        step.execute(todo, actor)
    assert actor.done == ["a"]
    error = caught.value
    assert (error.pointer, error.step, error.errno) == ("/mounts/3", "open /no/such", "ENOENT")
    assert str(error) == "config.json: /mounts/3: open /no/such: /no/such: no such file or directory (ENOENT)"


def test_execute_adds_the_pointer_to_an_error_without_one() -> None:
    with pytest.raises(ConfigError) as caught:
        step.execute([Step("/a", refuse)], Actor())
    assert caught.value.pointer == "/a"
    with pytest.raises(ConfigError) as caught:
        step.execute([Step("/a", refuse, own="/a/b")], Actor())
    assert caught.value.pointer == "/a/b"


def test_namespaces_are_asked_of_the_request() -> None:
    mine = request(config(linux={"namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}]}))
    assert mine.namespace("pid") == (True, "")
    assert mine.namespace("network") == (True, "/n")
    assert mine.namespace("uts") == (False, "")
    assert mine.has_new("pid") and not mine.has_new("network") and not mine.has_new("uts")


@pytest.mark.parametrize(("path", "found"), [("rootfs", "/bundle/rootfs"), ("/srv/root", "/srv/root")])
def test_the_rootfs_is_relative_to_the_bundle(path: str, found: str) -> None:
    assert request(config(root={"path": path})).rootfs() == found

"""What a container gets, listed from inside and compared with what was asked for: descriptors, variables, mounts, and
what else a process inherits. The caller has all kinds of things open and set."""

from __future__ import annotations

import os
import socket

import pytest
from support import config, leaks, proc
from support.runtime import ENVIRONMENT

DEFAULT_MOUNTS = [
    ("/", None),
    ("/proc", "proc"),
    ("/dev", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/sys", "sysfs"),
]
# Of a caller that is itself in the middle of something.
FOREIGN = {
    "LISTEN_FDS": "9",
    "LISTEN_PID": "1",
    "LISTEN_FDNAMES": "a:b",
    "NOTIFY_FD": "5",
    "PYTHONPATH": "/evil",
    "LD_PRELOAD": "/evil.so",
    "SECRET": "of the host",
    "XDG_RUNTIME_DIR": "/run/user/0",
}
# runc takes these for its own and gives up.
LIBCONTAINER = {"_LIBCONTAINER_INITPIPE": "3", "_LIBCONTAINER_FIFOFD": "4"}
DESCRIPTORS = ["/bin/ls", "-l", "/proc/self/fd"]
# A shell that lists everything else.
LIST = """
tr '\\0' '\\n' </proc/$$/environ | sed 's/^/env /'
sed 's/^/mount /' /proc/$$/mountinfo
sed 's/^/status /' /proc/$$/status
echo "cwd $(readlink /proc/$$/cwd)"
echo "root $(readlink /proc/$$/root)"
echo "umask $(umask)"
cat /proc/keys 2>/dev/null | sed 's/^/key /'
echo done
"""


@pytest.fixture
def foreign(runtime):
    """Descriptors of the caller, none of them close-on-exec: a file, directories of the host, a pipe, sockets, an epoll
    and a memfd; at low numbers and high ones."""
    fds = [os.open(path, os.O_RDONLY) for path in ("/etc/passwd", "/", "/sys/fs/cgroup", str(runtime.folder))]
    fds += os.pipe()
    fds += [end.detach() for end in socket.socketpair()]
    fds += [os.memfd_create("foreign"), os.pidfd_open(os.getpid())]
    high = [os.dup2(fds[0], number) for number in (100, 1000, 5000)]
    yield fds + high
    for fd in fds + high:
        os.close(fd)


def parse(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        found.setdefault(kind, []).append(rest)
    assert "done" in found, text
    return found


def inventory(box, verb: str, foreign) -> dict[str, list[str]]:
    """What a process sees that run, start or exec has made."""
    return parse(output(box, verb, foreign, ["/bin/sh", "-c", LIST]))


def descriptors(box, verb: str, foreign) -> list[str]:
    """The numbers of the descriptors of a process that run, start or exec has made."""
    return listed(output(box, verb, foreign, DESCRIPTORS).splitlines())


def listed(lines: list[str]) -> list[str]:
    """The numbers that `ls -l /proc/self/fd` has written, but for that of the list itself."""
    words = [line.split()[-3:] for line in lines if " -> " in line]
    return [number for number, _, target in words if not (target.startswith("/proc/") and target.endswith("/fd"))]


def output(box, verb: str, foreign, words: list[str]) -> str:
    """What a program writes that is called by way of run, start or exec, with foreign descriptors and variables."""
    options = {"pass_fds": foreign, "env": {**ENVIRONMENT, **FOREIGN}, "cwd": "/"}
    if box.runtime.is_ours:
        options["env"].update(LIBCONTAINER)
    box.process["args"] = words if verb != "exec" else ["/bin/sleep", "1000"]
    if verb == "run":
        return box.run(**options).stdout
    box.create(**options)
    box.start(**options)
    if verb == "exec":
        return box.runtime.run("exec", box.id, *words, **options).stdout
    box.wait()
    return box.output()


VERBS = ["run", "start", "exec"]


@pytest.mark.parametrize("verb", VERBS)
def test_descriptors(container, foreign, verb):
    assert descriptors(container(), verb, foreign) == ["0", "1", "2"]


@pytest.mark.parametrize("verb", ["start", "exec"])
def test_descriptors_beside_a_terminal(container, foreign, verb):
    """Neither its master nor the socket on which that went away."""
    box = container(["/bin/sleep", "1000"])
    script = "ls -l /proc/self/fd >/list.new; mv /list.new /list; sleep 1000"
    path = box.runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        if verb == "start":
            box.config["process"] |= {"terminal": True, "args": ["/bin/sh", "-c", script]}
        box.create(*(("--console-socket", str(path)) if verb == "start" else ()), pass_fds=foreign)
        box.start(pass_fds=foreign)
        if verb == "exec":
            words = ("exec", "--detach", "--tty", "--console-socket", str(path), box.id, "/bin/sh", "-c", script)
            box.runtime.run(*words, pass_fds=foreign)
        # The master stays with the socket: were it closed, the process would be hung up on.
        proc.wait_until((box.rootfs / "list").exists, "the list is there")
        box.kill("KILL")
        # Init does not end before the other one is reaped (pid_namespaces(7)).
        proc.wait_until(lambda: leaks.reap() or proc.process_state(box.pid) == "", "it ends")
    path.unlink()
    assert listed((box.rootfs / "list").read_text().splitlines()) == ["0", "1", "2"]


PASSES = pytest.mark.differs(crun="crun 1.8.1 passes LISTEN_PID on")


@pytest.mark.parametrize("verb", [pytest.param("run", marks=PASSES), pytest.param("start", marks=PASSES), "exec"])
def test_variables(container, foreign, verb):
    box = container()
    box.process["env"] = [config.PATH, "TERM=dumb", "EMPTY=", "NAME=a=b c", "HOME=/root"]
    found = inventory(box, verb, foreign)
    assert sorted(found["env"]) == sorted(box.process["env"])


@pytest.mark.parametrize("verb", VERBS)
def test_mounts(container, foreign, verb):
    """Nothing but the config's mounts, none of them in a peer group with the host's."""
    box = container()
    mounts = proc.parse_mountinfo("\n".join(inventory(box, verb, foreign)["mount"]))
    assert [one.target for one in mounts] == [target for target, _ in DEFAULT_MOUNTS]
    for one, (_, kind) in zip(mounts, DEFAULT_MOUNTS, strict=True):
        assert kind in (None, one.fstype)
        assert not any(word.startswith("shared:") for word in one.optional), one


@pytest.mark.parametrize("verb", VERBS)
def test_mounts_that_were_asked_for(container, foreign, verb, runtime):
    """Binds show what they are of, masks and read-only paths are there, and nothing else."""
    (runtime.folder / "volume").mkdir()
    box = container()
    box.config["mounts"].append(
        {"destination": "/data", "type": "bind", "source": str(runtime.folder / "volume"), "options": ["rbind"]}
    )
    box.config["linux"]["maskedPaths"] = ["/proc/version", "/sys/firmware"]
    box.config["linux"]["readonlyPaths"] = ["/proc/sys"]
    mounts = proc.parse_mountinfo("\n".join(inventory(box, verb, foreign)["mount"]))
    expected = {target for target, _ in DEFAULT_MOUNTS} | {"/data", "/proc/version", "/sys/firmware", "/proc/sys"}
    assert {one.target for one in mounts} == expected
    assert len(mounts) == len(expected)


NEW_PRIVILEGES = pytest.mark.differs(crun="crun 1.8.1 forgets noNewPrivileges")


@pytest.mark.parametrize("verb", ["run", "start", pytest.param("exec", marks=NEW_PRIVILEGES)])
def test_what_else_is_inherited(container, foreign, verb):
    """Signals, groups, capabilities, working directory, umask, keyring."""
    found = inventory(container(), verb, foreign)
    status = proc.parse_status("\n".join(found["status"]))
    # Not of the shell, which ignores SIGQUIT.
    box = container(["/bin/cat", "/proc/self/status"])
    ignored = "trap '' HUP USR1; exec \"$@\""
    status["SigIgn"] = proc.parse_status(box.run(wrap=["/bin/sh", "-c", ignored, "sh"]).stdout)["SigIgn"]
    assert status["Groups"] == ""
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"]
    assert int(status["CapBnd"], 16).bit_count() == len(config.CAPABILITIES)
    assert found["cwd"] == ["/"]
    assert found["root"] == ["/"]
    assert found["umask"] == ["0022"]


def test_the_callers_keyring_is_not_the_containers(container):
    """The session keyring has the container's name; the caller's own, only with --no-new-keyring."""
    seen = {}
    for flags in ((), ("--no-new-keyring",)):
        box = container(["/bin/cat", "/proc/keys"])
        keys = box.run(*flags).stdout
        seen[flags] = any("keyring" in line and box.id in line for line in keys.splitlines())
    assert seen == {(): True, ("--no-new-keyring",): False}


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
OF_SHELLS = ("PWD", "OLDPWD", "SHLVL", "_")
HOOK_VARIABLES = ["NAME=of the hook", "PATH=/usr/bin:/bin"]


def hook_inventory(box, foreign) -> dict[str, list[str]]:
    """What hooks of every kind have got, of a container that is made, run and deleted: kind -> lines."""
    results = {}
    for kind in HOOKS:
        # Those before the pivot and those of the runtime see the host's root; the other one the container's.
        name = f"result-{kind}"
        results[kind] = box.rootfs / name
        path = f"/{name}" if kind == "startContainer" else results[kind]
        script = f"exec >{path}; ls -l /proc/self/fd; cat /proc/self/environ | tr '\\0' '\\n' | sed 's/^/env /'"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": HOOK_VARIABLES}
        box.config.setdefault("hooks", {})[kind] = [hook]
    options = {"pass_fds": foreign, "env": {**ENVIRONMENT, **FOREIGN, **LIBCONTAINER}, "cwd": "/"}
    if not box.runtime.is_ours:
        options["env"] = {**ENVIRONMENT, **FOREIGN}
    box.process["args"] = ["/bin/true"]
    box.create(**options)
    box.start(**options)
    box.wait()
    box.delete(**options)
    return {kind: path.read_text().splitlines() for kind, path in results.items()}


@pytest.mark.differs(runc="runc 1.1.5 leaves descriptors of its own to createContainer hooks")
def test_hooks(container, foreign):
    """Three descriptors each, and their own variables, whoever runs them and wherever."""
    found = hook_inventory(container(), foreign)
    for kind in HOOKS:
        assert listed(found[kind]) == ["0", "1", "2"], kind
        variables = [line[4:] for line in found[kind] if line.startswith("env ")]
        assert sorted(one for one in variables if one.partition("=")[0] not in OF_SHELLS) == HOOK_VARIABLES, kind


@pytest.mark.ours
def test_a_leak_into_hooks_is_caught(container, foreign, weakened):
    box = container()
    box.runtime = weakened('replace("kernel.files.close_on_exec_from", lambda first: None)')
    found = hook_inventory(box, foreign)
    assert len(listed(found["createRuntime"])) == 3 + len(foreign)


@pytest.mark.ours
@pytest.mark.parametrize("verb", VERBS)
def test_a_leak_is_caught(container, foreign, weakened, verb):
    box = container()
    box.runtime = weakened(
        f"""
        old = replace("kernel.files.close_all_but", lambda kept, first: old(kept + {foreign}, first))
        replace("kernel.files.close_on_exec_from", lambda first: None)
        """
    )
    assert len(descriptors(box, verb, foreign)) == 3 + len(foreign)

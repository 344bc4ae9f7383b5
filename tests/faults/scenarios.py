"""What the sweep breaks off: a config, the commands before, the command that gets the fault, the commands after."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support import config as configs
from support import ordinary
from support.bundle import Bundle

TRUE = "/bin/true"
POSTSTOP = "poststop"  # a file that the last poststop hook leaves in the bundle
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@dataclass(frozen=True)
class Scenario:
    """Words of a command are formatted with `id`, `bundle`, `pidfile` and `socket`, on which somebody listens.

    prepare: commands that bring the container into the state in which `command` is given.
    """

    name: str
    config: Callable[[Bundle], None]
    command: str
    prepare: tuple[str, ...] = ()


def rich(bundle: Bundle) -> None:
    """All that this machine's kernel lets a config ask for."""
    config = bundle.config
    linux = config["linux"]
    config["ociVersion"] = "1.2.1"
    config["process"] |= {
        "args": ["/bin/sleep", "100"],
        "cwd": "/made/for/cwd",
        "user": {"uid": 0, "gid": 0, "umask": 0o027, "additionalGids": [5, 6]},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "oomScoreAdj": 100,
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
        "scheduler": {"policy": "SCHED_BATCH", "nice": 1},
        "env": [*config["process"]["env"], "HOME=/root"],
    }
    config["domainname"] = "example.org"
    config["annotations"] = {"org.example.key": "value"}
    config["hooks"] = {kind: [{"path": TRUE, "timeout": 10}, {"path": TRUE}] for kind in HOOKS}
    linux["namespaces"] += [{"type": "cgroup"}, {"type": "time"}]
    linux["timeOffsets"] = {"monotonic": {"secs": 10, "nanosecs": 0}, "boottime": {"secs": 20, "nanosecs": 0}}
    linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
    linux["personality"] = {"domain": "LINUX"}
    linux["rootfsPropagation"] = "private"
    linux["maskedPaths"] = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
    linux["readonlyPaths"] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 0},
        {"path": "/dev/made/pipe", "type": "p", "fileMode": 0o600},
    ]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["swapon", "reboot", "kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    linux["resources"] = {
        "memory": {"limit": 256 << 20, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 90000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": 100},
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        ],
    }
    config["root"]["readonly"] = True
    mount_many(bundle)


def mount_many(bundle: Bundle) -> None:
    """A dozen more mounts: every kind that takes another way through the code."""
    config = bundle.config
    source = bundle.path / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_text("text")
    (source / "below").mkdir(exist_ok=True)
    configs.add_mount(config, "/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"])
    configs.add_mount(config, "/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"])
    configs.add_mount(config, "/tmp", "tmpfs", "tmpfs", ["size=1m"])
    configs.add_mount(config, "/etc", "tmpfs", "tmpfs", ["tmpcopyup", "size=1m"])
    configs.add_mount(config, "/mnt", "tmpfs", "tmpfs", ["mode=755"])
    configs.add_mount(config, "/made/by/mount", "tmpfs", "tmpfs", ["noatime", "shared"])
    configs.bind(config, source, "/mnt/binds/plain")
    configs.bind(config, source, "/mnt/binds/read", "ro", "nosuid", "nodev", "noexec")
    configs.bind(config, source / "file", "/mnt/binds/file", "ro")
    configs.bind(config, source, "/mnt/binds/recursive", "rbind", "rro")
    configs.bind(config, source, "/mnt/binds/slave", "rslave")
    configs.bind(config, source / "below", "/mnt/binds/private", "private")


def idmapped(bundle: Bundle) -> None:
    """The rich config, and a bind with a map of its own, which init asks its parent for."""
    rich(bundle)
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    bundle.config["mounts"].append(
        {
            "destination": "/mnt/binds/mapped",
            "type": "bind",
            "source": str(bundle.path / "source"),
            "options": ["bind"],
            "uidMappings": maps,
            "gidMappings": maps,
        }
    )


def user_namespace(bundle: Bundle) -> None:
    """The rich config in a user namespace of its own."""
    rich(bundle)
    configs.map_ids(bundle.config)
    bundle.config["linux"]["devices"] = []
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    del bundle.config["process"]["ioPriority"]


def shared_namespaces(bundle: Bundle) -> None:
    """Nothing but a root of its own: what dies with namespaces elsewhere has to be undone here."""
    config = bundle.config
    config["process"]["args"] = ["/bin/sh", "-c", "sleep 100 & sleep 100"]
    config["linux"]["namespaces"] = []
    config["mounts"] = [
        configs.DEV,
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {"destination": "/mnt", "type": "bind", "source": str(bundle.path), "options": ["bind", "ro"]},
    ]
    config["hooks"] = {kind: [{"path": TRUE}] for kind in HOOKS}
    del config["hostname"]


def pod(bundle: Bundle) -> None:
    """Joins the namespaces of a sandbox, its user namespace too: a process in the middle clones init."""
    configs.map_ids(bundle.config)
    for kind in ("user", "pid", "network", "ipc", "uts"):
        configs.set_namespace(bundle.config, kind, "/proc/{sandbox}/ns/" + {"network": "net"}.get(kind, kind))
    for name in ("uidMappings", "gidMappings"):
        del bundle.config["linux"][name]
    del bundle.config["hostname"]
    sleeping(bundle)


def sleeping(bundle: Bundle) -> None:
    """A plain container that goes on."""
    bundle.config["process"]["args"] = ["/bin/sleep", "100"]
    bundle.config["hooks"] = {kind: [{"path": TRUE}] for kind in ("poststart", "poststop")}
    bundle.config["linux"]["resources"] = {"pids": {"limit": 100}, "memory": {"limit": 256 << 20}}


def guarded(bundle: Bundle) -> None:
    """A container whose exec has much to do."""
    sleeping(bundle)
    bundle.config["process"] |= {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000}],
        "oomScoreAdj": 100,
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
    }
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }


def guarded_user_namespace(bundle: Bundle) -> None:
    guarded(bundle)
    configs.map_ids(bundle.config)


def with_terminal(bundle: Bundle) -> None:
    """A terminal, whose master goes to a socket, and /dev/console."""
    sleeping(bundle)
    bundle.config["process"] |= {"terminal": True, "consoleSize": {"height": 24, "width": 80}}


def with_device(bundle: Bundle) -> None:
    """A network device of the host moves into the container; the harness has made it."""
    sleeping(bundle)
    bundle.config["linux"]["netDevices"] = {"{device}": {"name": "eth0"}}


def of_a_user(bundle: Bundle) -> None:
    """What an ordinary user asks for: a map that takes newuidmap(1), a cgroup that is his in one hierarchy only."""
    config = bundle.config
    config["process"] |= {"args": ["/bin/sleep", "100"], "oomScoreAdj": 500, "cwd": "/made/for/cwd"}
    config["process"]["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
    configs.set_namespace(config, "user")
    first, count = ordinary.RANGE
    lines = [
        {"containerID": 0, "hostID": ordinary.UID, "size": 1},
        {"containerID": 1, "hostID": first, "size": count},
    ]
    linux = config["linux"]
    linux["uidMappings"] = linux["gidMappings"] = lines
    linux["namespaces"].append({"type": "cgroup"})
    linux["maskedPaths"] = ["/proc/kcore", "/proc/keys", "/sys/firmware"]
    linux["readonlyPaths"] = ["/proc/bus", "/proc/sys"]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    linux["resources"] = {"pids": {"limit": 100}}
    configs.add_mount(config, "/tmp", "tmpfs", "tmpfs", ["size=1m"])
    configs.bind(config, bundle.path, "/mnt", "ro", "nosuid", "nodev")
    config["hooks"] = {kind: [{"path": TRUE}] for kind in HOOKS}


def of_a_user_alone(bundle: Bundle) -> None:
    """His own id only, which no helper has to map; the host's network and its /sys; no cgroup."""
    of_a_user(bundle)
    config = bundle.config
    linux = config["linux"]
    linux["uidMappings"] = linux["gidMappings"] = linux["uidMappings"][:1]
    del config["process"]["user"]["additionalGids"], linux["resources"]
    configs.drop_namespace(config, "network")
    config["mounts"] = [one for one in config["mounts"] if one["destination"] != "/sys"]
    configs.add_mount(config, "/sys", "none", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"])


def of_a_user_with_terminal(bundle: Bundle) -> None:
    of_a_user(bundle)
    bundle.config["process"]["terminal"] = True


CREATE = "create --bundle {bundle} --pid-file {pidfile} {id}"
RUN = "run --detach --bundle {bundle} --pid-file {pidfile} {id}"
RUN_TERMINAL = "run --detach --bundle {bundle} --pid-file {pidfile} --console-socket {socket} {id}"

# Those of the first group start a container; every phase of its plan is in them.
STARTS = (
    Scenario("run, rich", rich, RUN),
    Scenario("run, idmapped mount", idmapped, RUN),
    Scenario("run, user namespace", user_namespace, RUN),
    Scenario("run, no namespaces", shared_namespaces, RUN),
    Scenario("run, in a pod", pod, RUN),
    Scenario("run, terminal", with_terminal, RUN_TERMINAL),
    Scenario("run, network device", with_device, RUN),
)
OTHERS = (
    Scenario("start", sleeping, "start {id}", (CREATE,)),
    Scenario("exec", guarded, "exec --detach {id} /bin/sleep 100", (RUN,)),
    Scenario("exec, user namespace", guarded_user_namespace, "exec {id} /bin/true", (RUN,)),
    Scenario("exec, terminal", guarded, "exec --detach --tty --console-socket {socket} {id} /bin/sleep 100", (RUN,)),
    Scenario("kill", sleeping, "kill {id} KILL", (RUN,)),
    Scenario("kill --all", shared_namespaces, "kill --all {id} KILL", (RUN,)),
    Scenario("pause", sleeping, "pause {id}", (RUN,)),
    Scenario("resume", sleeping, "resume {id}", (RUN, "pause {id}")),
    Scenario("update", sleeping, "update --memory 134217728 --pids-limit 50 {id}", (RUN,)),
    Scenario("delete, created", sleeping, "delete --force {id}", (CREATE,)),
    Scenario("delete, running", rich, "delete --force {id}", (RUN,)),
    Scenario("delete, terminal", with_terminal, "delete --force {id}", (RUN_TERMINAL,)),
    Scenario("delete, no namespaces", shared_namespaces, "delete --force {id}", (RUN,)),
    Scenario("delete, paused", sleeping, "delete --force {id}", (RUN, "pause {id}")),
    Scenario("delete, stopped", sleeping, "delete {id}", (RUN, "kill {id} KILL")),
)
ALL = STARTS + OTHERS
# What an ordinary user does.
ROOTLESS = (
    Scenario("rootless run", of_a_user, RUN),
    Scenario("rootless run, one id", of_a_user_alone, RUN),
    Scenario("rootless run, terminal", of_a_user_with_terminal, RUN_TERMINAL),
    Scenario("rootless start", of_a_user, "start {id}", (CREATE,)),
    Scenario("rootless exec", of_a_user, "exec --detach {id} /bin/sleep 100", (RUN,)),
    Scenario("rootless exec, terminal", of_a_user, "exec -d -t --console-socket {socket} {id} /bin/sleep 100", (RUN,)),
    Scenario("rootless kill", of_a_user, "kill {id} KILL", (RUN,)),
    Scenario("rootless update", of_a_user, "update --pids-limit 50 {id}", (RUN,)),
    Scenario("rootless delete", of_a_user, "delete --force {id}", (RUN,)),
    Scenario("rootless delete, one id", of_a_user_alone, "delete --force {id}", (RUN,)),
)


def mark_poststop(bundle: Bundle) -> None:
    """Let the last poststop hook leave the file."""
    hooks = bundle.config.setdefault("hooks", {}).setdefault("poststop", [])
    hooks.append({"path": "/usr/bin/touch", "args": ["touch", str(bundle.path / POSTSTOP)]})
    bundle.save()


def make_bundle(scenario: Scenario, path: Path, base: Path, cgroup: str, **words: str) -> Bundle:
    """The scenario's bundle; made once, and used for all of its points. `words` are put in place of {word}."""
    bundle = Bundle(path, base, configs.default([TRUE]))
    scenario.config(bundle)
    text = json.dumps(bundle.config)
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    bundle.config = json.loads(text)
    bundle.config["linux"]["cgroupsPath"] = cgroup
    if scenario in ROOTLESS:
        bundle.chown(ordinary.UID, ordinary.UID)
        os.chown(path, ordinary.UID, ordinary.UID)
    elif "user namespace" in scenario.name or "pod" in scenario.name:
        bundle.chown(200000, 200000)
    bundle.save()
    return bundle

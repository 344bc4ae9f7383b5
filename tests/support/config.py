"""The config.json that the root tier starts from, and small changes to it."""

from __future__ import annotations

import json
from typing import Any

Config = dict[str, Any]

PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {
    "destination": "/dev",
    "type": "tmpfs",
    "source": "tmpfs",
    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
}
DEVPTS = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}
SHM = {
    "destination": "/dev/shm",
    "type": "tmpfs",
    "source": "shm",
    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
}
SYSFS = {
    "destination": "/sys",
    "type": "sysfs",
    "source": "sysfs",
    "options": ["nosuid", "noexec", "nodev", "ro"],
}


def default(args: list[str]) -> Config:
    """A plain container: root, few capabilities, the five usual namespaces, the usual mounts, no limits."""
    config: Config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": [PATH, "TERM=dumb"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "pyruntime",
        "mounts": [PROC, DEV, DEVPTS, SHM, SYSFS],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }
    return json.loads(json.dumps(config))


def drop_namespace(config: Config, kind: str) -> None:
    """Share this namespace with the caller of the runtime."""
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != kind]


def set_namespace(config: Config, kind: str, path: str | None = None) -> None:
    """Ask for a new namespace of this type, or for the one at `path`."""
    drop_namespace(config, kind)
    config["linux"]["namespaces"].append({"type": kind} if path is None else {"type": kind, "path": path})


def map_ids(config: Config, host: int = 200000, size: int = 65536) -> None:
    """Ask for a new user namespace whose ids 0 to size-1 are `host` and up outside."""
    set_namespace(config, "user")
    mapping = [{"containerID": 0, "hostID": host, "size": size}]
    config["linux"]["uidMappings"] = mapping
    config["linux"]["gidMappings"] = mapping


def add_mount(config: Config, destination: str, fstype: str, source: str, options: list[str]) -> None:
    """Append a mount to the default ones."""
    config["mounts"].append({"destination": destination, "type": fstype, "source": source, "options": options})


def bind(config: Config, source: object, destination: str, *options: str) -> None:
    """Append a bind mount; `options` come after `bind`."""
    add_mount(config, destination, "bind", str(source), ["bind", *options])

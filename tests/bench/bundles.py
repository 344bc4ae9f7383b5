"""The bundles that the benchmark runs: one busybox rootfs and two kinds of config.json on it.

Every runtime gets the same files. `plain` says what `runc spec` and `pyruntime spec` say; `docker` has the
shape of what dockerd 20.10 writes (seccomp profile, capabilities, masked paths and binds), read from the
recorded config in the test data, so that its length is the real one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
]
PTS_MODES = ["ptmxmode=0666", "mode=0620", "gid=5"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _mount(destination: str, fstype: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": fstype, "source": source, "options": list(options)}


def plain(rootfs: Path, args: list[str]) -> dict[str, object]:
    """The default config (as `spec` writes it) on ROOTFS (absolute), running ARGS."""
    safe = ("nosuid", "noexec", "nodev")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS, "ambient": CAPS},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "hostname": "bench",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", *PTS_MODES),
            _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", *safe),
            _mount("/sys", "sysfs", "sysfs", *safe, "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    }


def docker(rootfs: Path, args: list[str], binds: Path, cgroup: str) -> dict[str, object] | str:
    """Docker's config on ROOTFS, its files and one volume taken from BINDS; a str says why there is none."""
    found = sorted(TESTS.glob("**/docker-01.json"))
    if not found:
        return "no docker-01.json in the test data"
    config: dict[str, object] = json.loads(found[0].read_text())
    process, linux, mounts = config["process"], config["linux"], config["mounts"]
    assert isinstance(process, dict) and isinstance(linux, dict) and isinstance(mounts, list)
    process["args"] = args
    config["root"] = {"path": str(rootfs)}
    config.pop("hooks", None)  # dockerd's own libnetwork-setkey, which needs a live dockerd
    linux["cgroupsPath"] = cgroup
    binds.mkdir(exist_ok=True)
    (binds / "volume").mkdir(exist_ok=True)
    for mount in mounts:
        if mount["type"] == "bind":
            source = binds / os.path.basename(mount["source"])
            source.write_text("bench\n")
            mount["source"] = str(source)
    mounts.append(_mount("/volume", "bind", str(binds / "volume"), "rbind", "rprivate"))
    return config


def make_rootfs(where: Path) -> None:
    """Put a busybox rootfs (its programs are links, as `busybox --install -s` makes them) at WHERE."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("bench: no busybox: apt-get install busybox-static")
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "volume"):
        (where / folder).mkdir(parents=True)
    shutil.copy(busybox, where / "bin/busybox")
    for name in ("sh", "true", "sleep", "cat", "echo"):
        (where / "bin" / name).symlink_to("busybox")
    (where / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (where / "etc/group").write_text("root:x:0:\ntty:x:5:\n")
    for name in ("resolv.conf", "hostname", "hosts"):
        (where / "etc" / name).touch()


def write(bundle: Path, config: dict[str, object]) -> str:
    """Write CONFIG as the config.json of the new folder BUNDLE; returns the folder's name as a string."""
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config, indent=1))
    return str(bundle)

"""Nothing is imported from the rootfs, and nothing in it is opened but what a container's start has to look at.

The rootfs is a filesystem of its own, and the kernel tells of every file that is opened in it (fanotify(7)). At the
places where the host has the interpreter's modules, pyruntime's and their archive, it holds others, that leave a
marker when they are run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from support import attack, kernel, watching
from support.runtime import CHECKOUT

pytestmark = pytest.mark.ours

STDLIB = Path("/usr/lib/python3.11") if Path("/usr/lib/python3.11").exists() else Path(sysconfig.get_path("stdlib"))
EVIL = "import posix\nposix.close(posix.open('/MARKER', posix.O_CREAT))\n"
EVIL_C = """
#include <fcntl.h>
__attribute__((constructor)) static void run(void) { open("/MARKER", O_CREAT, 0600); }
"""
# What init has to look at: the user's home directory, the program and its interpreter, what it is executed with.
ALLOWED = {"/etc/passwd", "/bin/busybox", "/proc/sys/fs/binfmt_misc"}


@pytest.fixture(scope="session")
def evil_library(scratch):
    source = scratch / "evil.c"
    source.write_text(EVIL_C)
    return attack.compile_c(source, scratch / "evil.so", "-shared", "-fPIC")


@pytest.fixture
def planted(container, base, evil_library):
    """Make a container whose rootfs is a tmpfs with hostile modules at the host's paths."""
    mounted = []

    def make(*args, **options):
        box = container(*args, **options)
        shutil.rmtree(box.rootfs)
        box.rootfs.mkdir()
        kernel.mount("tmpfs", str(box.rootfs), "tmpfs", 0)
        mounted.append(str(box.rootfs))
        for entry in os.scandir(base):
            copy(Path(entry.path), box.rootfs / entry.name)
        plant(box.rootfs, evil_library)
        return box

    yield make
    for path in mounted:
        kernel.umount(path, kernel.MNT_DETACH)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def plant(rootfs: Path, library: Path) -> None:
    """Put hostile files at the paths of the host's modules: links to one of each kind."""
    sources, objects = rootfs / "evil.py", rootfs / "evil.so"
    sources.write_text(EVIL)
    objects.write_bytes(library.read_bytes())
    sites = Path(attack.site())
    folders = (CHECKOUT / "pyruntime", STDLIB / "encodings", STDLIB / "lib-dynload", sites / "cffi")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".so")]
    files += [path for folder in (STDLIB, sites) for path in folder.iterdir() if path.suffix in (".py", ".so")]
    for path in files:
        target = rootfs / str(path)[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(objects if path.suffix == ".so" else sources, target)
    archive = rootfs / str(CHECKOUT / "build/pyruntime.archive")[1:]
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_text(EVIL)


def surprising(box, watch) -> set[str]:
    """What was opened that need not be; the marker, should it be there."""
    found = {path for path in watch.take() if path not in ALLOWED and not (box.rootfs / path[1:]).is_dir()}
    return found | ({"/MARKER"} if (box.rootfs / "MARKER").exists() else set())


def fields(**members):
    """Change members of the config: a key `a__b` is /a/b."""

    def change(box) -> None:
        for name, value in members.items():
            place, _, last = name.rpartition("__")
            where = box.config
            for part in place.split("__") if place else ():
                where = where.setdefault(part, {})
            if isinstance(where.get(last), list) and last == "mounts":
                where[last] = where[last] + value
            else:
                where[last] = value

    return change


FAIL = {"path": "/bin/false"}
# What works, and what goes wrong in init, at every place where an error is made into words.
CASES = {
    "plain": fields(),
    "user": fields(process__user={"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 63}),
    "no new privileges": fields(process__noNewPrivileges=False),
    "masks": fields(linux__maskedPaths=["/proc/version", "/sys/firmware"], linux__readonlyPaths=["/proc/sys"]),
    "sysctl": fields(linux__sysctl={"net.ipv4.ip_forward": "1"}),
    "no sysctl": fields(linux__sysctl={"net.ipv4.no_such_thing": "1"}),
    "wrong sysctl": fields(linux__sysctl={"net.ipv4.ip_default_ttl": "many"}),
    "no program": fields(process__args=["/no/such/program"]),
    "no program in PATH": fields(process__args=["nonesuch"]),
    "directory": fields(process__args=["/etc"]),
    "no executable": fields(process__args=["/etc/passwd"]),
    "no directory": fields(process__cwd="/etc/passwd"),
    "descriptor": fields(process__cwd="/proc/self/fd/5"),
    "no filesystem": fields(mounts=[{"destination": "/x", "type": "nosuchfs", "source": "x"}]),
    "wrong option": fields(mounts=[{"destination": "/x", "type": "tmpfs", "source": "x", "options": ["size=much"]}]),
    "no source": fields(mounts=[{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}]),
    "file for a directory": fields(mounts=[{"destination": "/etc/passwd/x", "type": "tmpfs", "source": "x"}]),
    "inside proc": fields(mounts=[{"destination": "/proc/sys", "type": "tmpfs", "source": "x"}]),
    "device": fields(linux__devices=[{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]),
    "rlimit": fields(process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]),
    "no hook": fields(hooks={"createContainer": [{"path": "/no/such/hook"}]}),
    "failing hook": fields(hooks={"createContainer": [FAIL]}),
    "failing start hook": fields(hooks={"startContainer": [FAIL]}),
    "no start hook": fields(hooks={"startContainer": [{"path": "/no/such/hook"}]}),
    "label": fields(process__selinuxLabel="a:b:c:d", process__apparmorProfile="nosuch"),
    "unmapped": fields(
        process__user={"uid": 70_000, "gid": 0},
        linux__uidMappings=[{"containerID": 0, "hostID": 0, "size": 1000}],
        linux__gidMappings=[{"containerID": 0, "hostID": 0, "size": 1000}],
        linux__namespaces=[{"type": kind} for kind in ("user", "pid", "network", "ipc", "uts", "mount")],
    ),
    "no namespace": fields(linux__namespaces=[{"type": "mount"}, {"type": "network", "path": "/etc/passwd"}]),
    "long name": fields(hostname="x" * 100),
    "not ASCII": fields(process__args=["/bin/tür"], process__cwd="/täg"),
    "seccomp": fields(linux__seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}),
    "personality": fields(linux__personality={"domain": "LINUX32"}),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_of_the_rootfs_is_opened(planted, case):
    box = planted(["/bin/true"])
    CASES[case](box)
    with watching.opened_below(box.rootfs) as watch:
        for flags in ((), ("--debug",)):
            box.bundle.save()
            words = ("create", "--bundle", str(box.bundle.path), "--pid-file", str(box.pid_file), box.id)
            result = box.runtime.run(*words, flags=flags, check=None)
            if result.code == 0:
                box.start(check=None)
                box.wait()
                box.delete("--force")
            assert "Traceback" not in result.stderr
            assert "bug in pyruntime" not in result.stderr
        assert surprising(box, watch) == set()


EXECS = {
    "plain": ("ID", "/bin/true"),
    "user": ("--user", "1000:1000", "ID", "/bin/true"),
    "no program": ("ID", "/no/such/program"),
    "no program in PATH": ("ID", "nonesuch"),
    "no directory": ("--cwd", "/etc/passwd", "ID", "/bin/true"),
    "descriptor": ("--cwd", "/proc/self/fd/5", "ID", "/bin/true"),
    "label": ("--process-label", "a:b:c:d", "ID", "/bin/true"),
    "profile": ("--apparmor", "nosuch", "ID", "/bin/true"),
    "not ASCII": ("ID", "/bin/tür"),
    "capability": ("--cap", "CAP_NET_ADMIN", "ID", "/bin/true"),
}


def test_nothing_of_the_rootfs_is_opened_by_exec(planted):
    box = planted(["/bin/sleep", "1000"])
    box.create()
    box.start()
    with watching.opened_below(box.rootfs) as watch:
        for case, words in EXECS.items():
            for flags in ((), ("--debug",)):
                words = [box.id if word == "ID" else word for word in words]
                result = box.runtime.run("exec", *words, flags=flags, check=None)
                assert "bug in pyruntime" not in result.stderr
                assert surprising(box, watch) == set(), case


LAZY = """
def find(init, name):
    import wave
    old(init, name)
old = replace("features.process.program.find", find)
"""
KEPT = """
class Kept(list):
    def clear(self):
        pass
sys.meta_path = Kept(sys.meta_path)
"""


def test_a_late_import_is_caught(planted, weakened):
    """The planted modules are run when init imports, and the watch sees it."""
    box = planted(["/bin/true"])
    box.runtime = weakened(LAZY + KEPT)
    with watching.opened_below(box.rootfs) as watch:
        box.create(check=None)
        found = surprising(box, watch)
    assert "/MARKER" in found
    assert any(path.startswith(str(STDLIB)) for path in found)


def test_a_late_import_fails(planted, weakened):
    """Should one ever be written: it fails, and finds nothing."""
    box = planted(["/bin/true"])
    box.runtime = weakened(LAZY)
    with watching.opened_below(box.rootfs) as watch:
        assert box.create(check=None).code != 0
        assert surprising(box, watch) == set()
    assert "wave" in box.created.stderr


PYTHON = {
    "PYTHONPATH": "/evil",
    "PYTHONHOME": "/evil",
    "PYTHONSTARTUP": "/evil.py",
    "PYTHONINSPECT": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONVERBOSE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONBREAKPOINT": "evil",
    "LD_PRELOAD": "/evil.so",
    "LD_LIBRARY_PATH": "/",
    "LD_AUDIT": "/evil.so",
    "GCONV_PATH": "/",
    "LOCPATH": "/",
    "LANG": "xx_YY",
}


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_containers_variables_are_its_own(planted, verb):
    """They come in byte for byte, and do nothing before. The program is static: its loader does not read them."""
    box = planted(["/bin/env"])
    box.process["env"] = [f"{name}={value}" for name, value in PYTHON.items()]
    with watching.opened_below(box.rootfs) as watch:
        if verb == "exec":
            box.process["args"] = ["/bin/sleep", "1000"]
            box.create()
            box.start()
            result = box.runtime.run("exec", box.id, "/bin/env")
        else:
            result = box.run()
        assert surprising(box, watch) == set()
    assert result.stderr == ""
    assert set(result.stdout.splitlines()) == {*box.process["env"], "HOME=/root"}

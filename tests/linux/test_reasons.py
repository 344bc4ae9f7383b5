"""What usually goes wrong, provoked: the error says why, and what to do.

Each row of pyruntime/diagnose/hints.py and pyruntime/diagnose/causes.py has its test here, which
tests/unit/test_reasons.py sees to. Source: the bug trackers of runc, crun and youki, and the manual page of each call.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import kernel, leaks, proc
from support.config import add_mount, bind, map_ids, set_namespace
from support.filtered import without_clone3
from support.refusal import create_refused, error_lines, nothing_left, refused

pytestmark = pytest.mark.ours

USER = 65534
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]


def told(box, call: str, errno: str, *words: str, verb: str = "create", **options) -> str:
    """`create` (or `run`) fails with this error, and its line has all words in it."""
    before = set(proc.children())
    box.bundle.save()
    result = box.runtime.run(verb, "--bundle", box.bundle.path, box.id, check=None, timeout=20, **options)
    refused(box.runtime, result, f"({errno})" if verb == "create" else "", *words)
    nothing_left(box, before)
    line = error_lines(result)[-1]
    assert call in line or verb == "run", line
    assert ";" in line, f"no hint: {line}"
    return line


def shell(script: str) -> list[str]:
    """A wrapper that does something first, and then becomes the command."""
    return ["sh", "-c", f'{script} && exec "$@"', "sh"]


def in_user_namespace(script: str = "true") -> list[str]:
    """Root of a user namespace with one id, which may do something first."""
    return ["unshare", "-Urm", "--", *shell(script)]


@pytest.fixture
def as_user(container):
    """A container whose state and bundle an ordinary user can use."""

    def make(*args, **fields):
        box = container(*args, **fields)
        if subprocess.run([*AS_USER, "test", "-x", box.runtime.executable.path]).returncode:
            pytest.skip("the runtime under test cannot be reached by an ordinary user")
        for folder in (box.runtime.folder, box.runtime.root):
            folder.mkdir(exist_ok=True)
            os.chown(folder, USER, USER)
        return box

    return make


# Namespaces and processes


@pytest.mark.parametrize("kind, name", [("net", "network"), ("pid", "pid"), ("uts", "uts")])
def test_a_limit_on_namespaces(container, kind, name):
    """runc#4928: engines showed only `can't get final child's PID from pipe: EOF`."""
    wrap = in_user_namespace(f"echo 0 > /proc/sys/user/max_{kind}_namespaces")
    told(container(), "clone3", "ENOSPC", f"user.max_{kind}_namespaces = 0", "sysctl -w", wrap=wrap)


def test_a_limit_on_cgroup_namespaces(container):
    box = container()
    set_namespace(box.config, "cgroup")
    wrap = in_user_namespace("echo 0 > /proc/sys/user/max_cgroup_namespaces")
    told(box, "unshare", "ENOSPC", "/linux/namespaces/", "user.max_cgroup_namespaces = 0", wrap=wrap)


@pytest.fixture
def full_cgroup() -> Iterator[Path]:
    """A cgroup with room for no more than the runtime itself."""
    top = next((Path(p) for p in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if Path(p, "cgroup.procs").exists()), None)
    if top is None:
        pytest.skip("no pids controller on this host")
    path = top / f"{leaks.PREFIX}-full"
    path.mkdir()
    try:
        if not (path / "pids.max").exists():
            pytest.skip("the pids controller is not handed down here")
        (path / "pids.max").write_text("1")
        yield path
    finally:
        path.rmdir()


def test_a_limit_on_processes(container, full_cgroup):
    box = container()
    if V2:  # where init is born into its own cgroup, the limit is that of one above
        (full_cgroup / "cgroup.subtree_control").write_text("+pids")
        (full_cgroup / "pids.max").write_text("0")
        box.config["linux"]["cgroupsPath"] = f"/{full_cgroup.name}/box"
        told(box, "clone3", "EAGAIN", "pids.max of", str(full_cgroup), "is reached (0)", "pids.limit")
    else:
        words = ("pids.max of", str(full_cgroup), "is reached (1)", "pids.limit")
        told(box, "clone3", "EAGAIN", *words, wrap=shell(f"echo $$ > {full_cgroup}/cgroup.procs"))


def test_exec_into_a_full_container(container):
    """runc#4083: a Go runtime that aborts, where pids.max was reached."""
    if not V2:
        pytest.skip("on v1 a process enters its cgroup after its birth, when pids.max no longer counts")
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["resources"] = {"pids": {"limit": 1}}
    box.create()
    box.start()
    result = box.runtime.run("exec", box.id, "/bin/true", check=255)
    line = error_lines(result)[-1]
    assert "EAGAIN" in line and "pids.max of" in line and box.id in line, line


def test_a_user_without_a_user_namespace(as_user):
    told(as_user(), "clone3", "EPERM", "ordinary user", '{"type": "user"}', wrap=AS_USER)


def test_a_user_without_a_user_namespace_makes_a_cgroup_namespace(as_user):
    box = as_user()
    box.config["linux"]["namespaces"] = [{"type": "cgroup"}]
    box.config["mounts"] = []
    del box.config["hostname"]
    told(box, "unshare", "EPERM", "CAP_SYS_ADMIN", wrap=AS_USER)


@pytest.fixture
def chroot(runtime) -> list[str]:
    """A wrapper: the whole host below a directory that is no mount point."""
    place = runtime.folder / "chroot"
    place.mkdir()
    script = f"""
        for one in /*; do
            if [ -L "$one" ]; then cp -d "$one" {place}/
            elif [ -d "$one" ]; then mkdir {place}"$one"; mount --rbind "$one" {place}"$one"
            fi
        done; exec chroot {place} "$@" """
    return ["unshare", "-m", "--", "sh", "-c", script, "sh"]


def test_a_user_namespace_in_a_chroot(container, chroot):
    box = container()
    map_ids(box.config)
    told(box, "clone3", "EPERM", "in a chroot", wrap=chroot)


def test_a_filter_that_hides_clone3(container):
    """As seccomp profiles of container engines before 2021 did."""
    told(container(), "clone3", "ENOSYS", "seccomp filter", "newer seccomp profile", wrap=without_clone3())


def test_a_namespace_of_somebody_else(container):
    box = container()
    set_namespace(box.config, "network", "/proc/self/ns/net")
    told(box, "setns", "EPERM", "/linux/namespaces/", "no rights", wrap=in_user_namespace())


def test_the_user_namespace_that_one_is_in(container):
    box = container()
    set_namespace(box.config, "user", "/proc/self/ns/user")
    told(box, "setns", "EINVAL", "/linux/namespaces/", "cannot join its own user namespace")


# Ids


def test_maps_without_the_right_to_write_them(container):
    box = container()
    map_ids(box.config)
    wrap = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid", "--"]
    told(box, "write", "EPERM", "/linux/uidMappings", "CAP_SETUID", "/etc/subuid", wrap=wrap)


def test_maps_of_ids_that_one_has_not(container):
    """As in a container that has not got the range itself."""
    box = container()
    map_ids(box.config)
    words = ("/linux/uidMappings", "its uid_map is '0 0 1'")
    told(box, "write", "EPERM", *words, wrap=in_user_namespace(), flags=("--rootless=false",))


def test_maps_that_overlap(container):
    box = container()
    map_ids(box.config)
    box.config["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": 200000, "size": 10},
        {"containerID": 10, "hostID": 200005, "size": 10},
    ]
    create_refused(box, "/linux/gidMappings/1", "overlaps that of item 0")


def test_a_uid_outside_of_the_map(container):
    box = container()
    map_ids(box.config, size=1000)
    box.process["user"]["uid"] = 2000
    told(box, "setresuid", "EINVAL", "/process/user/uid", "linux.uidMappings does not cover it")


def test_devpts_with_a_group_outside_of_the_map(container):
    """runc#3317: EINVAL, and nobody knew why. It is left out, with a word."""
    box = container()
    map_ids(box.config, size=3)
    next(one for one in box.config["mounts"] if one["type"] == "devpts")["options"].append("gid=5")
    assert "/linux/gidMappings" in box.run().stderr


# Mounts


def test_a_missing_source(container):
    box = container()
    bind(box.config, "/nosuch/data", "/data")
    told(box, "open_tree", "ENOENT", "/mounts/5", "source of the mount is missing")


def test_a_file_on_a_directory(container):
    box = container()
    bind(box.config, "/etc/hostname", "/mnt")
    told(box, "move_mount", "ENOTDIR", "/mounts/5", "the source is a file, the destination a directory")


def test_a_source_below_a_private_directory(container, runtime):
    private = runtime.folder / "private"
    (private / "data").mkdir(parents=True)
    private.chmod(0o700)
    box = container()
    map_ids(box.config)
    # Anywhere else the parent opens it; below the rootfs the links are the image's.
    (box.rootfs / "link").symlink_to(private)
    bind(box.config, box.rootfs / "link/data", "/data")
    told(box, "open_tree", "EACCES", "/mounts/5", "permission to search a directory above the source", "chmod")


def test_a_source_with_locked_mounts_below(container, runtime):
    """A user namespace may not uncover what a mount of the host covers."""
    place = runtime.folder / "locked"
    (place / "below").mkdir(parents=True)
    kernel.mount("tmpfs", str(place / "below"), "tmpfs", 0)
    try:
        box = container()
        map_ids(box.config)
        (box.rootfs / "data").mkdir()
        bind(box.config, place, "/data")
        told(box, "open_tree", "EINVAL", "/mounts/5", "submounts that a user namespace must not hide", "use rbind")
    finally:
        kernel.umount(str(place / "below"), kernel.MNT_DETACH)


def test_an_unknown_filesystem(container):
    box = container()
    add_mount(box.config, "/data", "nosuchfs", "none", [])
    told(box, "fsopen", "ENODEV", "/mounts/5", "unknown filesystem type", "modprobe")


def test_an_option_that_the_filesystem_does_not_know(container):
    """What the filesystem itself says is in the line."""
    box = container()
    add_mount(box.config, "/data", "tmpfs", "none", ["size=much"])
    told(box, "fsconfig", "EINVAL", "/mounts/5", "size=much", "Bad value for 'size'", "correct the options")


def test_an_option_with_an_id_outside_of_the_map(container):
    box = container()
    map_ids(box.config, size=1000)
    (box.rootfs / "data").mkdir()
    add_mount(box.config, "/data", "tmpfs", "none", ["uid=70000"])
    told(box, "fsconfig", "EINVAL", "/mounts/5", "no uid 70000", "linux.uidMappings")


def _filesystem(*wanted: str) -> str:
    there = Path("/proc/filesystems").read_text().split()
    name = next((one for one in wanted if one in there), None)
    if name is None:
        pytest.skip(f"this kernel has none of {', '.join(wanted)}")
    return name


def test_a_filesystem_for_root_of_the_host_only(container):
    box = container()
    map_ids(box.config)
    (box.rootfs / "data").mkdir()
    add_mount(box.config, "/data", _filesystem("hugetlbfs", "ext4"), "none", [])
    told(box, "fsconfig", "EPERM", "/mounts/5", "only root of the host", "bind it")


def test_a_device_that_is_not_there(container):
    box = container()
    add_mount(box.config, "/data", _filesystem("ext4", "xfs"), "/dev/nosuch", [])
    told(box, "fsconfig", "ENOENT", "/mounts/5", "missing")


def test_a_directory_in_place_of_a_device(container):
    box = container()
    add_mount(box.config, "/data", _filesystem("ext4", "xfs"), "/tmp", [])
    told(box, "fsconfig", "ENOTBLK", "/mounts/5", "block device", "type bind")


def test_an_overlay_whose_upper_directory_is_in_use(container, runtime):
    _filesystem("overlay")
    place = runtime.folder / "overlay"
    place.mkdir()
    kernel.mount("tmpfs", str(place), "tmpfs", 0)
    try:
        for name in ("lower", "upper", "work", "work2", "merged"):
            (place / name).mkdir()
        words = [f"lowerdir={place}/lower", f"upperdir={place}/upper", "index=on"]
        kernel.mount("none", str(place / "merged"), "overlay", 0, ",".join([*words, f"workdir={place}/work"]))
        box = container()
        add_mount(box.config, "/data", "overlay", "none", [*words, f"workdir={place}/work2"])
        told(box, "fsconfig", "EBUSY", "/mounts/5", "in use by another mount", "upperdir and workdir of its own")
    finally:
        kernel.umount(str(place / "merged"), kernel.MNT_DETACH)
        kernel.umount(str(place), kernel.MNT_DETACH)


def test_proc_where_the_hosts_is_not_fully_visible(container):
    """In another container parts of /proc are covered, and so it may not be mounted anew in a user namespace."""
    box = container()
    map_ids(box.config)
    wrap = ["unshare", "-m", "--", *shell("mount -t tmpfs none /proc/sys/kernel")]
    told(box, "fsmount", "EPERM", "/mounts/0", "fully visible", wrap=wrap)


def test_mapped_owners_where_the_filesystem_has_none(container):
    """runc#4157, crun#1380: `mount_setattr: Invalid argument`."""
    box = container()
    bind(box.config, "/proc/sys", "/data")
    maps = [{"containerID": 0, "hostID": 10000, "size": 100}]
    box.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
    told(box, "mount_setattr", "EINVAL", "/mounts/5", "does not allow mapped mounts", "FS_ALLOW_IDMAP", "ext4")


def test_locked_attributes(container, runtime):
    """runc#4734: an option that a user namespace may not take from a mount of the host."""
    place = runtime.folder / "locked"
    place.mkdir()
    kernel.mount("tmpfs", str(place), "tmpfs", 1 << 10)  # MS_NOATIME
    try:
        box = container()
        map_ids(box.config)
        (box.rootfs / "data").mkdir()
        bind(box.config, place, "/data", "strictatime")
        told(box, "mount_setattr", "EPERM", "/mounts/5", "locked", "leave the option out")
    finally:
        kernel.umount(str(place), kernel.MNT_DETACH)


def test_a_place_that_root_of_the_container_may_not_make(container):
    box = container()
    map_ids(box.config)
    add_mount(box.config, "/data/sub", "tmpfs", "none", [])
    told(box, "mkdirat", "EACCES", "/mounts/5", "/data", "linux.uidMappings maps to container root", "chown")


def test_a_place_on_a_mount_that_is_read_only(container, runtime):
    (runtime.folder / "data").mkdir()
    box = container()
    bind(box.config, runtime.folder / "data", "/data", "ro")
    add_mount(box.config, "/data/sub", "tmpfs", "none", [])
    told(box, "mkdirat", "EROFS", "/mounts/6", "/data/sub", "is read-only")


def test_in_a_chroot(container, chroot):
    words = ("/root/path", "in a chroot whose root is not a mount point", "mount --bind")
    told(container(), "mount_setattr", "EINVAL", *words, wrap=chroot)


def test_pivot_root_after_a_hook_made_it_shared(container):
    script = "mount --make-rshared /"
    box = container(hooks={"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]})
    told(box, "pivot_root", "EINVAL", "/root/path", "shared", "hooks")


# Kernel parameters, keys


def test_a_sysctl_with_a_wrong_value(container):
    box = container()
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "yes"}
    told(box, "write", "EINVAL", "/linux/sysctl/net.ipv4.ip_forward", "does not take this value")


def test_a_sysctl_that_is_not_there(container):
    box = container()
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forwards": "1"}
    told(box, "openat2", "ENOENT", "/linux/sysctl/net.ipv4.ip_forwards", "no such parameter", "correct its name")


@pytest.mark.parametrize("destination", ["/file", "/file/below"])
def test_a_mount_at_a_file(container, destination):
    box = container()
    box.bundle.write("file", "")
    bind(box.config, "/etc", destination)
    told(box, "openat2", "ENOTDIR", "not a directory", "the destination a file, or a component", "correct the source")


ADD_KEYS = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
count = 0
while libc.syscall(number, b"user", b"key%d" % count, b"x", 1, -2) > 0 and count < 5000: count += 1
print(count, flush=True); time.sleep(60)
"""


def test_too_many_keys(container):
    """The quota is the user's, on all of the host: here that of the id which is the container's root."""
    uid = 212121
    process = subprocess.Popen(["/usr/bin/python3", "-c", ADD_KEYS, str(uid)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        box = container()
        map_ids(box.config, host=uid)
        told(box, "keyctl", "EDQUOT", "the key quota of the user is exhausted", "--no-new-keyring")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


# Cgroups


def test_cgroups_that_are_read_only(container):
    each = "for one in $(findmnt -rno TARGET -t cgroup,cgroup2)"
    wrap = ["unshare", "-m", "--", *shell(f"{each}; do mount -o remount,bind,ro $one; done")]
    told(container(), "mkdir", "EROFS", "/linux/cgroupsPath", "is mounted read-only", wrap=wrap)


def test_cgroups_of_somebody_else(as_user):
    box = as_user()
    map_ids(box.config, host=USER, size=1)
    told(box, "mkdir", "EACCES", "/linux/cgroupsPath", "delegated", wrap=AS_USER, flags=("--rootless=false",))


def test_no_more_cgroups(container):
    places = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    top = next((one for one in places if Path(one, "cgroup.controllers").exists()), None)
    if top is None:
        pytest.skip("no cgroup2 tree on this host")
    path = Path(top, f"{leaks.PREFIX}-few")
    path.mkdir()
    try:
        (path / "cgroup.max.descendants").write_text("0")
        box = container()
        box.config["linux"]["cgroupsPath"] = f"/{path.name}/box"
        told(box, "mkdir", "EAGAIN", "cgroup.max.descendants")
    finally:
        for one in leaks.hierarchies():
            if Path(one, path.name).is_dir():
                Path(one, path.name).rmdir()


# The program


def test_arguments_that_are_too_long(container):
    box = container(["/bin/echo", "x" * 200_000])
    told(box, "execve", "E2BIG", "argument list too long", "128 KiB", verb="run")


def test_a_hook_without_its_interpreter(container, runtime):
    hook = runtime.folder / "hook"
    hook.write_text("#!/bin/sh\r\ntrue\r\n")
    hook.chmod(0o755)
    box = container(hooks={"createRuntime": [{"path": str(hook)}]})
    told(box, "createRuntime hook #0", "ENOENT", str(hook), "first line", "CRLF")

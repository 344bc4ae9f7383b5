"""The user's process: who it is, where it starts, what it inherits, and what binds it.

Source: runtime-spec config.md, "Process", "POSIX process", "Linux Process"; config-linux.md, "Sysctl" and
"Personality".
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import proc
from support.config import PATH, drop_namespace, map_ids


def status_of(box) -> dict[str, str]:
    """/proc/PID/status of the user's process itself, read from outside."""
    box.create()
    box.start()
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    return box.process_status()


def test_user_and_groups(container):
    box = container(sh="id -u; id -g; id -G")
    box.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [5, 3000]}
    uid, gid, groups = box.run().stdout.splitlines()
    assert (uid, gid) == ("1000", "2000")
    assert set(groups.split()) == {"2000", "5", "3000"}


def test_all_four_ids_are_set(container):
    """Real, effective, saved and file system id."""
    box = container(["/bin/sleep", "100"])
    box.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [7]}
    status = status_of(box)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["2000"] * 4
    assert status["Groups"].split() == ["7"]


def test_groups_of_the_caller_are_dropped(container):
    box = container(["/bin/sleep", "100"])
    assert status_of(box)["Groups"].split() in ([], ["0"])


@pytest.mark.parametrize("wanted, shown", [(None, "0022"), (0, "0000"), (0o027, "0027"), (0o77, "0077")])
def test_umask(container, wanted, shown):
    """022 when the config has none, whatever that of the caller is."""
    box = container(["/bin/sleep", "100"])
    if wanted is not None:
        box.process["user"]["umask"] = wanted
    before = os.umask(0o011)
    try:
        assert status_of(box)["Umask"] == shown
    finally:
        os.umask(before)


def test_cwd(container):
    box = container(sh="pwd; ls")
    box.bundle.write("srv/data/file", "")
    box.process["cwd"] = "/srv/data"
    assert box.run().stdout.split() == ["/srv/data", "file"]


def test_a_missing_cwd_is_made(container):
    """As runc does it, and as images with a WORKDIR rely on."""
    box = container(sh="pwd")
    box.process["cwd"] = "/not/there/yet"
    assert box.run().stdout == "/not/there/yet\n"
    assert (box.rootfs / "not/there/yet").is_dir()


def test_a_cwd_that_is_a_link_is_followed_inside(container, runtime):
    box = container(sh="pwd -P")
    (box.rootfs / "link").symlink_to("/etc")
    box.process["cwd"] = "/link"
    assert box.run().stdout == "/etc\n"


def test_a_cwd_of_the_user_alone(container):
    """A directory that root without CAP_DAC_OVERRIDE may not enter, but the user may."""
    box = container(sh="pwd")
    home = box.rootfs / "home/ham"
    os.chown(home, 1000, 1000)
    home.chmod(0o700)
    box.process["cwd"] = "/home/ham"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert box.run().stdout == "/home/ham\n"


def test_environment_is_that_of_the_config(container):
    """And none of the caller's: it has OUTSIDE set."""
    box = container(["/bin/env"])
    box.process["env"] = [PATH, "A=1", "EMPTY=", "SPACE=a  b", "EQUALS=a=b=c", "HOME=/somewhere"]
    lines = box.run().stdout.splitlines()
    assert sorted(lines) == sorted(box.process["env"])


def test_the_last_of_two_variables_counts(container):
    box = container(sh="echo $A")
    box.process["env"] += ["A=first", "A=last"]
    assert box.run().stdout == "last\n"


def test_a_value_of_several_lines_and_bytes(container):
    box = container(sh='printf %s "$A"')
    box.process["env"].append("A=one\ntwo ä€😀")
    assert box.run().stdout == "one\ntwo ä€😀"


def test_a_large_environment(container):
    """Larger than a packet or a pipe of the handshake."""
    box = container(sh="echo ${#A} ${#Z}")
    box.process["env"] += [
        "A=" + "a" * 100_000,
        *(f"V{number}={'v' * 1000}" for number in range(500)),
        "Z=zz",
    ]
    assert box.run().stdout == "100000 2\n"


def test_many_arguments(container):
    box = container(["/bin/sh", "-c", "echo $# ${500}", "sh", *(str(number) for number in range(1, 2001))])
    assert box.run().stdout == "2000 500\n"


@pytest.mark.parametrize("env", [[], ["HOME="]], ids=["unset", "empty"])
@pytest.mark.parametrize("uid, home", [(0, "/root"), (1000, "/home/ham"), (4711, "/")])
def test_home_is_from_passwd(container, env, uid, home, runtime):
    """Of the rootfs; / for a user that it does not know."""
    if env and runtime.kind != "ours":
        pytest.skip("runc 1.1.5 and crun 1.8.1 leave an empty HOME empty")
    if uid == 4711 and runtime.kind == "crun":
        pytest.skip("crun 1.8.1 gives an unknown user an empty HOME")
    box = container(sh="echo $HOME")
    box.process["env"] += env
    box.process["user"] = {"uid": uid, "gid": 0}
    assert box.run().stdout == f"{home}\n"


def test_home_of_the_config_wins(container):
    box = container(sh="echo $HOME")
    box.process["env"].append("HOME=/elsewhere")
    assert box.run().stdout == "/elsewhere\n"


@pytest.mark.differs(runc="runc 1.1.5 fails with a line too long for its buffer", crun="crun 1.8.1 sets an empty HOME")
def test_a_hostile_passwd_does_no_harm(container):
    """Garbage and a line that is longer than a page: no failure, HOME is /."""
    box = container(sh="echo $HOME")
    (box.rootfs / "etc/passwd").unlink()
    box.bundle.write("etc/passwd", b"\xff\xfe:::\n::::::\nroot\n" + b"x" * 100_000 + b"\nroot:x:zero:0::/no:/no\n")
    assert box.run().stdout == "/\n"


def test_args_are_looked_up_in_the_containers_path(container):
    """PATH of process.env, not that of the caller."""
    box = container(["only-here"])
    box.process["env"] = ["PATH=/nosuch:/opt/tools:/bin"]
    box.bundle.write("opt/tools/only-here", "#!/bin/sh\necho found $0\n", 0o755)
    assert box.run().stdout == "found /opt/tools/only-here\n"


def test_lookup_passes_over_what_cannot_be_run(container):
    """A directory, and a file without x, of that name are no commands."""
    box = container(["tool"])
    box.process["env"] = ["PATH=/one:/two:/three:/bin"]
    (box.rootfs / "one/tool").mkdir(parents=True)
    box.bundle.write("two/tool", "#!/bin/sh\necho two\n", 0o644)
    box.bundle.write("three/tool", "#!/bin/sh\necho three\n", 0o755)
    assert box.run().stdout == "three\n"


RELATIVE = pytest.param(["PATH=.:bin"], marks=pytest.mark.differs(crun="crun 1.8.1 searches relative directories"))


@pytest.mark.parametrize("env", [[], ["PATH="], ["PATH=:/nosuch"], ["PATH=/nosuch:"], RELATIVE], ids=str)
def test_the_working_directory_is_in_no_path(container, env):
    """Neither an empty entry nor no PATH at all means it, as it does to a shell."""
    box = container(["tool"])
    box.bundle.write("srv/tool", "#!/bin/sh\necho here\n", 0o755)
    box.bundle.write("srv/bin/tool", "#!/bin/sh\necho there\n", 0o755)
    box.process["cwd"] = "/srv"
    box.process["env"] = env
    result = box.run(check=None)
    assert result.code != 0
    assert result.stdout == ""
    if box.runtime.is_ours:
        assert "executable file not found in $PATH" in result.stderr


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("name", ["/own/tool", "tool"])
def test_a_program_that_only_a_capability_opens(container, verb, name):
    """execve(2) goes by the effective capabilities, access(2) by none unless the real uid is 0 (runc issue 3715)."""
    box = container(["/bin/sleep", "100"] if verb == "exec" else [name])
    box.bundle.write("own/tool", (box.rootfs / "bin/busybox").read_bytes(), 0o700)
    box.process["env"] = ["PATH=/own"]
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {key: ["CAP_DAC_OVERRIDE"] for key in ("bounding", "effective", "permitted")}
    if verb == "run":
        result = box.run(check=None)
    else:
        box.create()
        box.start()
        result = box.runtime.run("exec", box.id, name, check=None)
    assert "applet not found" in result.stderr  # said by busybox, which has none called tool


@pytest.mark.differs(crun="crun 1.8.1 leaves it to execve(2), at start")
def test_a_program_that_no_capability_opens(container):
    """The same without it: told by `create`."""
    box = container(["/own/tool"])
    box.bundle.write("own/tool", (box.rootfs / "bin/busybox").read_bytes(), 0o700)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {key: ["CAP_DAC_OVERRIDE"] for key in ("bounding", "permitted")}
    result = box.create(check=None)
    assert result.code != 0
    assert "permission denied" in result.stderr.lower()


def test_a_relative_command_is_below_cwd(container):
    box = container(["./tool"])
    box.bundle.write("srv/tool", "#!/bin/sh\necho here\n", 0o755)
    box.process["cwd"] = "/srv"
    assert box.run().stdout == "here\n"


def test_no_descriptors_but_stdio(container):
    """Whatever the caller had open: containerd's first create has its shim's socket at 3."""
    box = container(sh="ls /proc/self/fd")
    reader, writer = os.pipe()
    try:
        text = box.run(pass_fds=(reader, writer)).stdout
    finally:
        os.close(reader)
        os.close(writer)
    # 3 is the directory that ls itself has open.
    assert text.split() == ["0", "1", "2", "3"]


def test_preserve_fds(container, tmp_path):
    """--preserve-fds N: 3 up to 3+N-1, and no others."""
    box = container(sh="ls /proc/self/fd; cat <&3; cat <&4")
    command = ["sh", "-c", 'exec 3<"$1" 4<"$2" 5<"$1"; shift 2; exec "$@"', "sh"]
    for name in ("three", "four"):
        (tmp_path / name).write_text(f"{name}\n")
    wrap = [*command, str(tmp_path / "three"), str(tmp_path / "four")]
    lines = box.run("--preserve-fds", "2", wrap=wrap).stdout.split()
    assert lines == ["0", "1", "2", "3", "4", "5", "three", "four"]


def test_session_and_signals(container):
    """Init leads a session of its own; no signal is blocked or ignored."""
    box = container(["/bin/sleep", "100"])
    status = status_of(box)
    assert os.getsid(box.pid) == box.pid
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(container, wanted):
    box = container(["/bin/sleep", "100"])
    box.process["noNewPrivileges"] = wanted
    assert status_of(box)["NoNewPrivs"] == str(int(wanted))


@pytest.mark.parametrize("value", [0, 17, 1000])
def test_oom_score_adj(container, value):
    box = container(["/bin/sleep", "100"])
    box.process["oomScoreAdj"] = value
    status_of(box)
    assert box.proc("oom_score_adj").strip() == str(value)


def test_oom_score_adj_of_the_caller_is_kept_without_one(container):
    box = container(["/bin/sleep", "100"])
    status_of(box)
    assert box.proc("oom_score_adj") == proc.read("self", "oom_score_adj")


def limits(box) -> dict[str, list[str]]:
    """/proc/PID/limits: the name to soft and hard limit."""
    status_of(box)
    return {line[:26].strip(): line[26:].split()[:2] for line in box.proc("limits").splitlines()[1:]}


def test_rlimits(container):
    box = container(["/bin/sleep", "100"])
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400},
        {"type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 1 << 21},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 23},
        {"type": "RLIMIT_MEMLOCK", "soft": 0, "hard": 4096},
    ]
    shown = limits(box)
    assert shown["Max open files"] == ["100", "200"]
    assert shown["Max core file size"] == ["0", "0"]
    assert shown["Max processes"] == ["300", "400"]
    assert shown["Max file size"] == [str(1 << 20), str(1 << 21)]
    assert shown["Max stack size"] == [str(1 << 20), str(1 << 23)]
    assert shown["Max locked memory"] == ["0", "4096"]


def test_unlimited(container):
    box = container(["/bin/sleep", "100"])
    box.process["rlimits"] = [{"type": "RLIMIT_CPU", "soft": 2**64 - 1, "hard": 2**64 - 1}]
    assert limits(box)["Max cpu time"] == ["unlimited", "unlimited"]


@pytest.mark.differs(crun="crun 1.8.1 sets its own limits first")
def test_a_low_limit_does_not_hinder_the_runtime(container):
    """A limit is the process's: what prepares it may need more descriptors, and larger files."""
    box = container(["/bin/sleep", "100"])
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 16, "hard": 16},
        {"type": "RLIMIT_FSIZE", "soft": 10, "hard": 10},
    ]
    assert limits(box)["Max open files"] == ["16", "16"]


@pytest.mark.differs(runc="runc 1.1.5 takes the later", crun="crun 1.8.1 takes the later")
def test_a_limit_twice_is_refused(container):
    """config.md: "duplicated entries with same type MUST generate an error"."""
    box = container()
    box.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": number, "hard": 5} for number in (0, 1)]
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/process/rlimits/1" in result.stderr


def test_an_unknown_limit_is_refused(container):
    box = container()
    box.process["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/process/rlimits/0" in result.stderr
        assert "RLIMIT_NOSUCH" in result.stderr


def test_a_soft_limit_above_the_hard_one_is_refused(container):
    box = container()
    box.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/process/rlimits/0" in result.stderr


def test_sysctl(container):
    """Those of the container's own namespaces; the host's stay."""
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    box = container(sh="cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max")
    box.config["linux"]["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "kernel.msgmax": "4321",
        "fs.mqueue.msg_max": "77",
    }
    assert box.run().stdout.split() == ["1", "4321", "77"]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_a_sysctl_with_slashes(container):
    """Interface names may have dots: then the separators are slashes."""
    box = container(sh="cat /proc/sys/net/ipv4/conf/lo/forwarding")
    box.config["linux"]["sysctl"] = {"net/ipv4/conf/lo/forwarding": "1"}
    assert box.run().stdout == "1\n"


@pytest.mark.parametrize(
    "name, kind",
    [
        ("kernel.msgmax", "ipc"),
        ("net.ipv4.ip_forward", "network"),
        ("vm.swappiness", None),
        ("nosuch.key", None),
    ],
)
def test_a_sysctl_of_the_host_is_refused(container, name, kind):
    """One that is not of a namespace of the container's own would change the host."""
    path = "/proc/sys/" + name.replace(".", "/")
    before = Path(path).read_text() if os.path.exists(path) else None
    box = container()
    if kind:
        drop_namespace(box.config, kind)
    box.config["linux"]["sysctl"] = {name: "1"}
    result = box.create(check=None)
    assert result.code != 0
    if before is not None:
        assert Path(path).read_text() == before
    if box.runtime.is_ours:
        assert f"/linux/sysctl/{name}" in result.stderr


def test_a_sysctl_that_the_kernel_refuses(container):
    box = container()
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "no number"}
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/linux/sysctl/net.ipv4.ip_forward" in result.stderr


@pytest.mark.parametrize(
    "domain, machine",
    [
        pytest.param("LINUX32", "i686", marks=pytest.mark.differs(runc="runc 1.1.5 ignores it")),
        ("LINUX", "x86_64"),
    ],
)
def test_personality(container, domain, machine):
    if os.uname().machine != "x86_64":
        pytest.skip("the names are those of x86_64")
    box = container(["/bin/uname", "-m"])
    box.config["linux"]["personality"] = {"domain": domain}
    assert box.run().stdout == f"{machine}\n"


def test_uid_0_of_a_user_namespace(container):
    box = container(sh="id -u; id -g; echo $HOME; pwd")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    assert box.run().stdout.split() == ["0", "0", "/root", "/"]


def test_stdio_is_the_users(container):
    """An ordinary user can open /dev/stdout anew; /dev/null of the host is not given away."""
    box = container(sh="echo one > /dev/stdout; echo two > /dev/stderr")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    null = os.stat("/dev/null")
    result = box.run()
    assert "one" in result.stdout
    now = os.stat("/dev/null")
    assert (now.st_uid, now.st_gid, now.st_mode) == (null.st_uid, null.st_gid, null.st_mode)


OPEN_AGAIN = "cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr"


@pytest.mark.differs(
    crun="crun 1.8.1 leaves those of exec to the host", runc="runc 1.1.5 leaves those of create", sometimes=True
)
@pytest.mark.parametrize("way", ["run", "create", "exec"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_pipes_are_the_users_in_a_user_namespace(container, uid, way):
    """init has no rights over them there: the parent gives them away."""
    box = container(["/bin/sh", "-c", OPEN_AGAIN] if way != "exec" else ["/bin/sleep", "100"])
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.process["user"] = {"uid": uid, "gid": uid}
    box.bundle.save()
    words = ["exec", box.id, "/bin/sh", "-c", OPEN_AGAIN]
    if way == "exec":
        box.create()
        box.start()
    elif way == "run":
        words = ["run", "--bundle", str(box.bundle.path), box.id]
    else:
        words = ["create", "--bundle", str(box.bundle.path), box.id]
    command = [box.runtime.executable.path, "--root", str(box.runtime.root), *words]
    with subprocess.Popen(command, **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)) as made:
        made.stdin.write(b"in\n")
        made.stdin.close()
        if way == "create":
            assert made.wait(30) == 0
            box.start()
        out, err = made.stdout.read(), made.stderr.read()
    assert (out, err) == (b"in\nout\n", b"err\n")


@pytest.mark.differs(crun="crun 1.8.1 gives files away")
def test_other_files_stay_the_hosts_in_a_user_namespace(container, runtime):
    """Their owner could change the mode: a log of the host's would become a setuid program."""
    box = container(sh="echo written")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    null = os.stat("/dev/null")
    fifo = runtime.folder / "fifo"
    os.mkfifo(fifo)
    named = os.open(fifo, os.O_RDWR)
    try:
        box.run(stdin=named)  # standard output and error are files of the harness
        box.runtime.run("delete", "--force", box.id, check=None)
        box.run()  # standard input is /dev/null
    finally:
        os.close(named)
    assert fifo.stat().st_uid == 0
    assert {path.stat().st_uid for path in runtime.output.iterdir()} == {0}
    now = os.stat("/dev/null")
    assert (now.st_uid, now.st_gid, now.st_mode) == (null.st_uid, null.st_gid, null.st_mode)


@pytest.mark.parametrize("owner, then", [(0, 201000), (12345, 12345)])
@pytest.mark.differs(crun="crun 1.8.1 leaves it to the host", runc="runc 1.1.5 leaves it to the host", sometimes=True)
def test_a_terminal_of_the_caller_is_the_users_in_a_user_namespace(container, owner, then):
    """But not one of somebody else's, who would lose it."""
    box = container(["/bin/sleep", "100"])
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.bundle.save()
    master, terminal = os.openpty()
    try:
        os.fchown(terminal, owner, -1)
        command = [box.runtime.executable.path, "--root", str(box.runtime.root), "create", "--bundle"]
        command += [str(box.bundle.path), box.id]
        subprocess.run(command, stdin=terminal, stdout=terminal, check=True, timeout=30)
        assert os.fstat(terminal).st_uid == then
    finally:
        os.close(terminal)
        os.close(master)

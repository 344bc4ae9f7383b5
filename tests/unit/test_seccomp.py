"""linux.seccomp: planning, compiling (the kernel is the judge of what was compiled), the cache. Needs no root."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support import filtered

from pyruntime.errors import ConfigError
from pyruntime.features.security import seccomp, seccomp_cache, seccomp_profile
from pyruntime.kernel import filter, libseccomp
from pyruntime.plan.request import Request

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "data" / "configs").glob("*.json"))
PROFILES = {
    path.stem: profile for path in CONFIGS if (profile := json.loads(path.read_text()).get("linux", {}).get("seccomp"))
}
NATIVE = libseccomp.native_architecture()
MARK = 42  # an error number that no call in these tests gives by itself
ALLOW = "SCMP_ACT_ALLOW"


def number(name: str) -> int:
    found = libseccomp.system_call(NATIVE, name)
    assert found >= 0, name
    return found


def rule(name: str, *args: dict[str, Any], action: str = "SCMP_ACT_ERRNO", **fields: Any) -> dict[str, Any]:
    if action == "SCMP_ACT_ERRNO":
        fields.setdefault("errnoRet", MARK)
    return {"names": [name], "action": action, "args": list(args)} | fields


def arg(index: int, op: str, value: int, other: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": other}


def results(profile: dict[str, Any], *calls: tuple[Any, ...]) -> list[int] | int:
    """The error number of each call (name or number, arguments…) under the profile."""
    program = seccomp_profile.compile_profile(profile).program
    return filtered.call(program, [[number(name) if isinstance(name, str) else name, *args] for name, *args in calls])


def request(profile: dict[str, Any], rootless: bool = False, **process: Any) -> Request:
    config = {"ociVersion": "1.3.0", "process": process, "linux": {"seccomp": profile}}
    return Request(config, id="c", bundle="/b", layout=None, rootless=rootless)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_of_engines_are_loaded_by_the_kernel(name: str) -> None:
    compiled = seccomp_profile.compile_profile(PROFILES[name])
    assert len(compiled.program) % 8 == 0
    assert filtered.call(compiled.program, [[number("getpid")]]) == [0]


def test_docker_profile() -> None:
    found = results(
        PROFILES["docker-01"],
        ("getpid",),
        ("keyctl", 0),
        ("personality", 0xFFFFFFFF),  # asks only: a value that the profile lists
        ("personality", 0x0040000),  # ADDR_NO_RANDOMIZE is not among them
    )
    assert found == [0, errno.EPERM, 0, errno.EPERM]


def test_system_calls_newer_than_the_profile_do_not_exist() -> None:
    highest = max(number(name) for name in ("openat2", "faccessat2", "close_range"))
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": PROFILES["docker-01"]["syscalls"]}
    assert results(profile, (2000,), ("swapon", 0)) == [errno.ENOSYS, errno.EPERM]
    assert highest < 2000


def test_a_default_that_permits_is_not_changed_for_newer_system_calls() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [rule("getpid")]}
    program = seccomp_profile.compile_profile(profile).program
    bare = seccomp_profile.compile_profile({"defaultAction": "SCMP_ACT_LOG", "syscalls": [rule("getpid")]})
    assert len(program) == len(bare.program)
    assert filtered.call(program, [[number("getpid")], [2000]]) == [MARK, errno.ENOSYS]  # the kernel's own


@pytest.mark.parametrize(
    ("op", "value", "other", "matched", "missed"),
    [
        ("NE", 5, 0, [4, 6, 1 << 40], [5]),
        ("LT", 5, 0, [0, 4], [5, 6, 1 << 40]),
        ("LE", 5, 0, [0, 5], [6]),
        ("EQ", 5, 0, [5], [4, 6, 5 + (1 << 32)]),
        ("GE", 5, 0, [5, 6, 1 << 40], [4]),
        ("GT", 5, 0, [6, 1 << 32], [5, 0]),
        ("MASKED_EQ", 0xF0, 0x20, [0x20, 0x2F, 0x120], [0x30, 0x00]),
    ],
)
def test_operators(op: str, value: int, other: int, matched: list[int], missed: list[int]) -> None:
    # lseek of a descriptor that is not open: EBADF unless the filter was asked and matched.
    profile = {"defaultAction": ALLOW, "syscalls": [rule("lseek", arg(1, op, value, other))]}
    found = results(profile, *[("lseek", 999, offset, 0) for offset in matched + missed])
    assert found == [MARK] * len(matched) + [errno.EBADF] * len(missed)


def test_conditions_on_different_arguments_must_all_hold() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [rule("lseek", arg(1, "EQ", 1), arg(2, "EQ", 2))]}
    found = results(profile, ("lseek", 999, 1, 2), ("lseek", 999, 1, 0), ("lseek", 999, 0, 2))
    assert found == [MARK, errno.EBADF, errno.EBADF]


def test_of_conditions_on_one_argument_one_must_hold() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [rule("lseek", arg(1, "EQ", 1), arg(1, "EQ", 3))]}
    found = results(profile, ("lseek", 999, 1, 0), ("lseek", 999, 3, 0), ("lseek", 999, 2, 0))
    assert found == [MARK, MARK, errno.EBADF]


def test_errno_is_eperm_when_none_is_given() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}]}
    assert results(profile, ("getpid",)) == [errno.EPERM]


def test_default_errno() -> None:
    needed = PROFILES["docker-01"]["syscalls"]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": MARK, "syscalls": needed}
    assert results(profile, ("swapon", 0)) == [MARK]


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_actions_that_kill(action: str) -> None:
    assert results({"defaultAction": ALLOW, "syscalls": [rule("swapon", action=action)]}, ("swapon", 0)) == (
        signal.SIGSYS
    )


def test_trace_without_a_tracer_is_enosys() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [rule("getpid", action="SCMP_ACT_TRACE", errnoRet=7)]}
    assert results(profile, ("getpid",)) == [errno.ENOSYS]


def test_log_lets_the_call_through() -> None:
    assert results({"defaultAction": ALLOW, "syscalls": [rule("getpid", action="SCMP_ACT_LOG")]}, ("getpid",)) == [0]


def test_a_rule_equal_to_the_default_is_left_out() -> None:
    profile = {"defaultAction": ALLOW, "syscalls": [rule("getpid", action=ALLOW), rule("getppid")]}
    assert results(profile, ("getpid",), ("getppid",)) == [0, MARK]


def test_unknown_system_calls_and_architectures_are_noted_and_left_out() -> None:
    profile = {
        "defaultAction": ALLOW,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_NOSUCH"],
        "syscalls": [{"names": ["no_such_call", "getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": MARK}],
    }
    assert results(profile, ("getppid",)) == [MARK]
    assert seccomp_profile.compile_profile(profile).notes == [
        "this libseccomp does not know the architecture SCMP_ARCH_NOSUCH",
        "unknown system call no_such_call",
    ]


def test_many_rules_make_a_tree_that_says_the_same() -> None:
    names = ["getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "sync", "umask", "getsid", "getpgid"]
    rules = [rule(name, errnoRet=100 + index) for index, name in enumerate(names)]
    found = results({"defaultAction": ALLOW, "syscalls": rules}, *[(name, 0) for name in names], ("gettid",))
    assert found == [100 + index for index in range(len(names))] + [0]


def test_a_filter_too_long_for_the_kernel_is_refused() -> None:
    rules = [rule("lseek", *[arg(1, "EQ", value) for value in range(5000)])]
    with pytest.raises(ConfigError, match="instructions") as caught:
        seccomp_profile.compile_profile({"defaultAction": ALLOW, "syscalls": rules})
    assert caught.value.pointer == "/linux/seccomp"


@pytest.mark.parametrize("count", [5_000, 20_000])
def test_more_rules_than_can_be_loaded_are_refused_at_once(count: int) -> None:
    """libseccomp takes a minute and a half for 20,000, and the kernel would not load the filter."""
    equal = {"index": 1, "op": "SCMP_CMP_EQ"}
    names = ["read", "write", "close", "lseek", "ioctl", "dup", "getpid", "socket", "connect", "fcntl"]
    rules = [rule(names[n % len(names)], {**equal, "value": n}) for n in range(count)]
    begun = time.process_time()
    with pytest.raises(ConfigError, match=f"has {count} rules with args") as caught:
        seccomp_profile.compile_profile({"defaultAction": ALLOW, "syscalls": rules})
    assert time.process_time() - begun < 5
    assert "4096" in str(caught.value)


def test_a_rule_that_is_there_twice_counts_once() -> None:
    """So do rules with args of a system call that has one without."""
    one = rule("getpid", {"index": 0, "op": "SCMP_CMP_EQ", "value": 1})
    others = [rule("write", {"index": 0, "op": "SCMP_CMP_EQ", "value": n}) for n in range(6_000)]
    many = {"defaultAction": ALLOW, "syscalls": [rule("write"), *[one] * 20_000, *others]}
    few = {"defaultAction": ALLOW, "syscalls": [rule("write"), one]}
    assert seccomp_profile.compile_profile(many).program == seccomp_profile.compile_profile(few).program


def test_what_libseccomp_refuses_is_said_with_its_place() -> None:
    rules = [rule("getpid"), rule("getppid", errnoRet=5000)]  # above the kernel's highest error number
    with pytest.raises(ConfigError, match="rule for getppid") as caught:
        seccomp_profile.compile_profile({"defaultAction": ALLOW, "syscalls": rules})
    assert caught.value.pointer == "/linux/seccomp/syscalls/1"


def test_two_rules_for_one_system_call() -> None:
    profile = {
        "defaultAction": ALLOW,
        "syscalls": [rule("lseek", arg(1, "EQ", 1)), rule("lseek", arg(1, "EQ", 2), errnoRet=43)],
    }
    assert results(profile, ("lseek", 999, 1, 0), ("lseek", 999, 2, 0)) == [MARK, 43]


def test_plan_loads_before_privileges_go_only_without_no_new_privileges() -> None:
    profile = PROFILES["docker-01"]
    with_it, without = request(profile, noNewPrivileges=True), request(profile)
    assert [list(seccomp.plan_privileged(r)) != [] for r in (with_it, without)] == [False, True]
    assert [list(seccomp.plan_unprivileged(r)) != [] for r in (with_it, without)] == [True, False]
    step = next(seccomp.plan(with_it))
    assert step.describe() == "compile the system call filter (12 rules, otherwise SCMP_ACT_ERRNO)"


@pytest.mark.parametrize(
    ("given", "listens", "expected"),
    [
        (None, False, "SPEC_ALLOW"),
        ([], False, ""),
        (["LOG"], False, "LOG"),
        (["TSYNC"], True, "TSYNC NEW_LISTENER TSYNC_ESRCH"),
        (["WAIT_KILLABLE_RECV"], True, "WAIT_KILLABLE_RECV NEW_LISTENER"),
        (["WAIT_KILLABLE_RECV"], False, ""),
    ],
)
def test_flags(given: list[str] | None, listens: bool, expected: str) -> None:
    profile: dict[str, Any] = {"defaultAction": ALLOW, "syscalls": []}
    if given is not None:
        profile["flags"] = [f"SECCOMP_FILTER_FLAG_{name}" for name in given]
    if listens:
        profile["listenerPath"] = "/run/agent.sock"
        profile["syscalls"] = [rule("mkdir", action="SCMP_ACT_NOTIFY")]
    made = request(profile)
    (step,) = seccomp.plan_privileged(made)
    assert step.args["flags"] == [f"SECCOMP_FILTER_FLAG_{name}" for name in expected.split()]
    assert bool(made.warnings) == (given == ["WAIT_KILLABLE_RECV"] and not listens)


def test_a_listener_cannot_be_asked_about_the_way_to_it() -> None:
    by_default = {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/agent.sock"}
    write = {"defaultAction": ALLOW, "syscalls": [rule("write", action="SCMP_ACT_NOTIFY")]}
    for profile, pointer in (
        (by_default, "/linux/seccomp/defaultAction"),
        (write, "/linux/seccomp/syscalls/0/names"),
    ):
        with pytest.raises(ConfigError) as caught:
            list(seccomp.plan(request(profile)))
        assert caught.value.pointer == pointer


class TestCache:
    program = bytes(range(64))
    library = libseccomp.library()

    def stored(self, root: Path) -> Path:
        seccomp_cache.store(str(root), "key", self.program, self.library)
        return root / ".cache/seccomp/key"

    def test_gives_back_what_was_stored(self, tmp_path: Path) -> None:
        file = self.stored(tmp_path)
        assert seccomp_cache.find(str(tmp_path), "key") == self.program
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert os.listdir(file.parent) == ["key"]

    def test_misses_another_key(self, tmp_path: Path) -> None:
        self.stored(tmp_path)
        assert seccomp_cache.find(str(tmp_path), "other") is None

    @pytest.mark.parametrize("at", [0, 30, -1])
    def test_believes_no_changed_file(self, tmp_path: Path, at: int) -> None:
        file = self.stored(tmp_path)
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        assert seccomp_cache.find(str(tmp_path), "key") is None

    def test_believes_no_short_file(self, tmp_path: Path) -> None:
        file = self.stored(tmp_path)
        for size in (0, 10, len(file.read_bytes()) - 8):
            file.write_bytes(file.read_bytes()[:size])
            assert seccomp_cache.find(str(tmp_path), "key") is None

    def test_believes_no_file_that_others_may_write(self, tmp_path: Path) -> None:
        self.stored(tmp_path).chmod(0o620)
        assert seccomp_cache.find(str(tmp_path), "key") is None

    def test_follows_no_link(self, tmp_path: Path) -> None:
        file = self.stored(tmp_path)
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        assert seccomp_cache.find(str(tmp_path), "key") is None

    def test_forgets_when_the_library_changes(self, tmp_path: Path) -> None:
        library = tmp_path / "libseccomp.so.2"
        library.write_bytes(b"one")
        seccomp_cache.store(str(tmp_path), "key", self.program, str(library))
        assert seccomp_cache.find(str(tmp_path), "key") == self.program
        library.write_bytes(b"another")
        assert seccomp_cache.find(str(tmp_path), "key") is None

    def test_keeps_a_limited_number(self, tmp_path: Path) -> None:
        for index in range(70):
            seccomp_cache.store(str(tmp_path), f"key{index}", self.program, self.library)
            os.utime(tmp_path / f".cache/seccomp/key{index}", (index, index))
        kept = os.listdir(tmp_path / ".cache/seccomp")
        assert len(kept) == 64 and "key69" in kept and "key0" not in kept

    def test_a_directory_that_cannot_be_written_is_no_error(self) -> None:
        seccomp_cache.store("/proc/nowhere", "key", self.program, self.library)
        assert seccomp_cache.find("/proc/nowhere", "key") is None

    def test_the_key_is_of_what_is_compiled(self) -> None:
        profile = PROFILES["docker-01"]
        key = seccomp_cache.key(profile)
        assert seccomp_cache.key(json.loads(json.dumps(profile))) == key
        assert seccomp_cache.key(profile | {"listenerPath": "/x", "flags": []}) == key
        assert seccomp_cache.key(profile | {"defaultErrnoRet": 5}) != key
        assert seccomp_cache.key(profile | {"syscalls": profile["syscalls"][1:]}) != key


def test_the_second_time_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Record:
        directory = str(tmp_path / "container")

    class Parent:
        record = Record()

    parent = Parent()
    parent.request = request(PROFILES["docker-01"])  # type: ignore[attr-defined]
    (step,) = seccomp.plan(parent.request)  # type: ignore[attr-defined]
    step.do(parent, **step.args)
    first = seccomp._program
    assert filtered.call(first, [[number("keyctl"), 0]]) == [errno.EPERM]

    monkeypatch.setattr(seccomp_profile, "compile_profile", None)
    monkeypatch.setattr(seccomp, "_program", b"")
    step.do(parent, **step.args)
    assert seccomp._program == first


def test_features() -> None:
    found = seccomp_profile.features()
    assert "SCMP_ACT_NOTIFY" in found["actions"] and "SCMP_CMP_MASKED_EQ" in found["operators"]
    assert {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"} <= set(found["archs"])
    # Of Linux 3.17, 4.14 and 4.17: every kernel that has clone3(2) has them.
    assert found["supportedFlags"][:3] == found["knownFlags"][:3]


def test_a_flag_that_no_kernel_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(filter.FLAGS, "SECCOMP_FILTER_FLAG_TSYNC", 1 << 30)
    assert not filter.supports("SECCOMP_FILTER_FLAG_TSYNC")

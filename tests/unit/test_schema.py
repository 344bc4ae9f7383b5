"""oci-spec/: our schema, its compiled form, jsonschema and the specification's own schema must agree."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.strategies import damaged, fitting

from pyruntime.spec import check as check_module
from pyruntime.spec import schema, shape

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests" / "data" / "configs").glob("*.json"))
}
SMALLEST = [name for name in CONFIGS if len(json.dumps(CONFIGS[name])) < 6000]
OFFICIAL = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")

VALIDATOR = schema.validator("config")


def compiler() -> Any:
    spec = importlib.util.spec_from_file_location("compile_schema", ROOT / "oci-spec" / "compile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(config: object, node: shape.Shape = shape.CONFIG) -> set[str]:
    """The pointers that the compiled shape finds fault with, without the rules between several members."""
    found: list[Any] = []
    check_module._visit(config, node, None, found, [])
    return {problem.pointer for problem in found}


def theirs(config: object) -> set[str]:
    """The pointers that jsonschema finds fault with."""
    pointers = set()
    for error in VALIDATOR.iter_errors(config):
        keys = list(error.absolute_path)
        if error.validator == "required":
            keys.append(re.match(r"'(.*)' is a required property", error.message)[1])  # type: ignore[index]
        elif error.parent is None and "propertyNames" in error.absolute_schema_path:
            keys.append(error.instance)
        pointers.add("".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys))
    return pointers


def test_the_compiled_shape_is_up_to_date() -> None:
    module = compiler()
    assert module.MODULE.read_text(encoding="utf-8") == module.module(), "run oci-spec/compile.py"
    assert module.TYPES.read_text(encoding="utf-8") == module.types(), "run oci-spec/compile.py"


@pytest.mark.parametrize("name", ["config", "state", "features"])
def test_the_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.read(name))


@pytest.mark.parametrize("name", ["config", "state", "features"])
def test_every_member_has_a_title(name: str) -> None:
    document = schema.read(name)

    def untitled(part: dict[str, Any], where: str) -> list[str]:
        found = []
        for key, member in part.get("properties", {}).items():
            target = document["$defs"][member["$ref"].removeprefix("#/$defs/")] if "$ref" in member else {}
            if "title" not in member and "title" not in target:
                found.append(f"{where}/{key}")
            found += untitled(member, f"{where}/{key}")
        return found

    parts = {"": document, **document.get("$defs", {})}
    assert [name for where, part in parts.items() for name in untitled(part, where)] == []


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_corpus_fits(name: str) -> None:
    assert theirs(CONFIGS[name]) == set() == ours(CONFIGS[name])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(fitting(shape.CONFIG).flatmap(damaged))
@example({"ociVersion": "1.0.0\n"})
@example({"ociVersion": "1.0.0", "process": {"cwd": "/", "args": ["sh", "a\0b"], "env": ["é", "\udc80"]}})
@example({"ociVersion": "1.0.0", "annotations": {"a\0": "b", "c": "d\0"}})
@example({"ociVersion": "1.0.0", "root": {"path": "\udc80"}, "process": {"cwd": "/", "args": ["\ud800", 1]}})
@example({"ociVersion": "1.0.0", "linux": {"resources": {"pids": {"limit": 1.0}}}})
@example({"ociVersion": "1.0.0", "linux": {"resources": {"pids": {"limit": True}}}})
def test_jsonschema_gives_the_same_verdict_on_made_up_configs(config: Any) -> None:
    assert ours(config) == theirs(config)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SMALLEST).flatmap(lambda name: damaged(CONFIGS[name])))
def test_jsonschema_gives_the_same_verdict_on_damaged_configs(config: Any) -> None:
    assert ours(config) == theirs(config)


@pytest.mark.parametrize("config", [None, [], "x", 1, {}])
def test_jsonschema_gives_the_same_verdict_on_no_config(config: object) -> None:
    assert ours(config) == theirs(config) != set()


@pytest.mark.parametrize("pattern", list(compiler().FORMATS))
@given(st.data())
def test_the_formats_are_twins_of_the_patterns(pattern: str, data: st.DataObject) -> None:
    twin = check_module.FORMATS[compiler().FORMATS[pattern]]
    exact = re.compile(pattern.replace("$", r"\Z"))
    letters = st.text(alphabet="01.9-+aZ/KMGBrwx:, \n", max_size=12)
    text = data.draw(st.from_regex(exact) | letters | st.text(max_size=6))
    assert bool(twin(text)) == bool(exact.search(text))


def test_every_format_is_used() -> None:
    assert set(compiler().FORMATS.values()) | {"filled"} == set(check_module.FORMATS)


# --- the specification's own schema, as Debian packages it (for runtime-spec 1.0.2 and later, draft 4)

MINIMAL: dict[str, Any] = {"ociVersion": "1.0.2"}
RESOURCES_OK: dict[str, Any] = {
    "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": -1}],
    "memory": {"limit": -1, "swappiness": 60, "disableOOMKiller": True, "checkBeforeUpdate": False},
    "cpu": {"shares": 2, "quota": -1, "period": 1, "burst": 0, "cpus": "0-1", "mems": "0", "idle": 1},
    "pids": {"limit": 5},
    "blockIO": {
        "weight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 5}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
    "rdma": {"mlx": {"hcaHandles": 1}},
    "unified": {"memory.high": "1"},
}
SECCOMP_RULE: dict[str, Any] = {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}


def process(**members: object) -> dict[str, Any]:
    return {**MINIMAL, "process": {"cwd": "/", **members}}


def linux(**members: object) -> dict[str, Any]:
    return {**MINIMAL, "linux": members}


def seccomp(**members: object) -> dict[str, Any]:
    return linux(seccomp={"defaultAction": "SCMP_ACT_LOG", **members})


def resources(**members: object) -> dict[str, Any]:
    return linux(resources=members)


SAME: list[dict[str, Any]] = [
    *CONFIGS.values(),
    MINIMAL,
    {},
    {**MINIMAL, "unknown": 1, "linux": {"unknown": 1}},
    {**MINIMAL, "root": {}},
    {**MINIMAL, "root": {"path": "x", "readonly": 1}},
    {**MINIMAL, "mounts": [{"destination": "/x", "options": ["ro"]}]},
    {**MINIMAL, "mounts": [{"source": "/x"}]},
    {**MINIMAL, "mounts": [{"destination": "/x", "uidMappings": [{"containerID": 0, "hostID": 0}]}]},
    {**MINIMAL, "hooks": {"createContainer": [{"path": "/x", "args": ["x"], "env": [], "timeout": 1}]}},
    {**MINIMAL, "hooks": {"poststart": [{"path": "/x", "timeout": 0}]}},
    {**MINIMAL, "hooks": {"poststop": [{"args": ["x"]}]}},
    {**MINIMAL, "annotations": {"a": 1}},
    {**MINIMAL, "hostname": 1},
    {**MINIMAL, "domainname": []},
    {**MINIMAL, "process": {}},
    process(terminal=True, consoleSize={"height": 1, "width": 1}),
    process(consoleSize={"height": 1}),
    process(user={"uid": 1, "gid": 1, "umask": 18, "additionalGids": [1]}),
    process(user={}),
    process(user={"uid": -1}),
    process(user={"umask": 2**32}),
    process(args=["x", 1]),
    process(env="A=B"),
    process(capabilities={"bounding": ["CAP_KILL"], "ambient": []}),
    process(capabilities=[]),
    process(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]),
    process(rlimits=[{"type": "RLIMIT_CORE", "soft": 0}]),
    process(rlimits=[{"type": "core", "soft": 0, "hard": 0}]),
    process(oomScoreAdj="1"),
    process(noNewPrivileges=True, apparmorProfile="x", selinuxLabel="y"),
    process(noNewPrivileges=None),
    linux(namespaces=[{"type": "pid"}, {"type": "network", "path": "/x"}]),
    linux(namespaces=[{"type": "net"}]),
    linux(uidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]),
    linux(gidMappings=[{"containerID": 0, "hostID": 0, "size": 2**32}]),
    linux(devices=[{"type": "c", "path": "/x", "major": 1, "minor": 1, "fileMode": 438, "uid": 0, "gid": 0}]),
    linux(devices=[{"type": "x", "path": "/x"}]),
    linux(devices=[{"type": "p"}]),
    linux(cgroupsPath="/x", rootfsPropagation="slave", mountLabel="x"),
    linux(rootfsPropagation="x"),
    linux(sysctl={"net.x": "1"}, maskedPaths=["/x"], readonlyPaths=[]),
    linux(sysctl={"net.x": 1}),
    seccomp(architectures=["SCMP_ARCH_X86"], syscalls=[SECCOMP_RULE]),
    linux(seccomp={"syscalls": []}),
    linux(seccomp={"defaultAction": "SCMP_ACT_OK"}),
    seccomp(flags=["SECCOMP_FILTER_FLAG_LOG"]),
    seccomp(flags=["LOG"]),
    seccomp(syscalls=[{**SECCOMP_RULE, "names": []}]),
    seccomp(syscalls=[{**SECCOMP_RULE, "args": [{"index": 0}]}]),
    linux(intelRdt={"closID": "x", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}),
    linux(intelRdt={"memBwSchema": "0=20"}),
    linux(personality={"domain": "LINUX32", "flags": []}),
    linux(personality={"domain": "BSD"}),
    resources(**RESOURCES_OK),
    *(resources(**{name: 1}) for name in RESOURCES_OK),
    resources(hugepageLimits=[{"pageSize": "2mb", "limit": 0}]),
    resources(rdma={"x": {"hcaHandles": -1}}),
    resources(memory={"limit": 2**63}),
    resources(devices=[{"access": "r"}]),
    resources(network={"priorities": [{"name": "x"}]}),
]

# What an official schema does not know yet, by the name that newer ones have, and ours does. True: we accept.
NEWER: list[tuple[dict[str, Any], bool, str]] = [
    (linux(namespaces=[{"type": "time"}]), True, "time"),
    (seccomp(architectures=["SCMP_ARCH_LOONGARCH64"]), True, "SCMP_ARCH_LOONGARCH64"),
    (process(scheduler={"policy": "SCHED_NONE"}), False, "scheduler"),
    (process(ioPriority={"class": "BE", "priority": 0}), False, "ioPriority"),
    (process(execCPUAffinity={"final": "all"}), False, "execCPUAffinity"),
    (linux(timeOffsets={"monotonic": 1}), False, "timeOffsets"),
    (linux(netDevices={"eth0": 1}), False, "netDevices"),
    (linux(memoryPolicy={"mode": "BIND"}), False, "memoryPolicy"),
    (linux(intelRdt={"schemata": "L3:0=f"}), False, "schemata"),
    (linux(intelRdt={"enableMonitoring": 1}), False, "enableMonitoring"),
    ({**MINIMAL, "freebsd": 1}, False, "freebsd"),
]

# Where ours differs, and why. True: we accept, they refuse.
DIFFERENT: list[tuple[dict[str, Any], bool, str]] = [
    (
        linux(rootfsPropagation="rslave"),
        True,
        "docker writes the recursive words, and runc and crun take them",
    ),
    (
        linux(devices=[{"type": "c", "path": "/x", "fileMode": 0o777 + 0o1000}]),
        True,
        "0777 is 511: their limit of 512 is a slip, and S_ISVTX a mode bit",
    ),
    (
        resources(devices=[{"allow": True, "type": "a"}], pids={}),
        True,
        "pids.limit became a pointer in 1.3: it can be left out",
    ),
    ({"ociVersion": "2.0.0"}, False, "no version that this runtime knows"),
    ({**MINIMAL, "root": {"path": ""}}, False, "an empty path names nothing"),
    (process(user={"uid": 2**32 - 1}), False, "credentials(7): it is -1, which is no id"),
    (
        linux(uidMappings=[{"containerID": 0, "hostID": 2**32 - 1, "size": 1}]),
        False,
        "user_namespaces(7): 4294967295 cannot be mapped",
    ),
    (
        linux(devices=[{"type": "c", "path": "/x", "major": -1, "minor": 0}]),
        False,
        "a device number has no sign: 12 bits and 20",
    ),
    (seccomp(defaultErrnoRet=2**16), False, "seccomp(2): 16 bits of the action are data"),
    (process(oomScoreAdj=2000), False, "proc(5): -1000 to 1000"),
    ({**MINIMAL, "process": {"cwd": "x"}}, False, "config.md: cwd MUST be absolute"),
    (
        {**MINIMAL, "hooks": {"poststop": [{"path": "x"}]}},
        False,
        "config.md: path of a hook MUST be absolute",
    ),
    (linux(namespaces=[{"type": "ipc", "path": "x"}]), False, "config-linux.md: path MUST be absolute"),
    (linux(maskedPaths=["x"]), False, "config-linux.md: MUST be absolute"),
    (linux(readonlyPaths=["x"]), False, "config-linux.md: MUST be absolute"),
    (linux(devices=[{"type": "p", "path": "x"}]), False, "config-linux.md: full path"),
    (linux(personality={}), False, "config-linux.md: domain is REQUIRED"),
    (
        process(rlimits=[{"type": "RLIMIT_X", "soft": 0, "hard": 0}]),
        False,
        "config.md: a type that cannot be mapped MUST be an error",
    ),
    (
        seccomp(syscalls=[{**SECCOMP_RULE, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]),
        False,
        "system calls have six arguments",
    ),
    (resources(devices=[{"allow": True, "access": "x"}]), False, "config-linux.md: composed of r, w and m"),
    (resources(devices=[{"allow": True, "type": "x"}]), False, "config-linux.md: a, c or b"),
    (
        resources(blockIO={"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}),
        False,
        "config-linux.md: rate is REQUIRED",
    ),
]


@pytest.fixture(scope="module")
def official() -> Any:
    if not OFFICIAL.is_dir():
        pytest.skip("the package golang-github-opencontainers-specs-dev is not installed")
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    contents = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in OFFICIAL.glob("*.json")}
    registry: Any = Registry().with_resources(
        [(name, DRAFT4.create_resource(content)) for name, content in contents.items()]
    )
    return jsonschema.Draft4Validator(contents["config-schema.json"], registry=registry)


@pytest.mark.parametrize("config", SAME, ids=lambda config: json.dumps(config)[:80])
def test_the_official_schema_gives_the_same_verdict(config: dict[str, Any], official: Any) -> None:
    assert (ours(config) == set()) == official.is_valid(config)


@pytest.mark.parametrize(("config", "accepted", "reason"), DIFFERENT, ids=lambda value: str(value)[:60])
def test_the_official_schema_differs_where_we_know_why(
    config: dict[str, Any], accepted: bool, reason: str, official: Any
) -> None:
    assert (ours(config) == set(), official.is_valid(config)) == (accepted, not accepted), reason


@pytest.mark.parametrize(("config", "accepted", "name"), NEWER, ids=lambda value: str(value)[:60])
def test_the_official_schema_knows_less_where_it_is_older(
    config: dict[str, Any], accepted: bool, name: str, official: Any
) -> None:
    known = any(f'"{name}"' in path.read_text(encoding="utf-8") for path in OFFICIAL.glob("*.json"))
    assert (ours(config) == set(), official.is_valid(config)) == (accepted, accepted is known)


# --- state and features

STATE: dict[str, Any] = {"ociVersion": "1.3.0", "id": "c", "status": "running", "pid": 5, "bundle": "/b"}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"annotations": {"a": "b"}}, True),
        ({"status": "paused"}, True),
        ({"status": "stopped", "pid": None}, True),
        ({"pid": None}, False),
        ({"status": "creating", "pid": None}, True),
        ({"status": "gone"}, False),
        ({"bundle": "b"}, False),
        ({"id": ""}, False),
        ({"pid": "5"}, False),
        ({"annotations": {"a": 1}}, False),
        ({"ociVersion": None}, False),
    ],
)
def test_states(changes: dict[str, Any], good: bool) -> None:
    state = {key: value for key, value in {**STATE, **changes}.items() if value is not None}
    assert schema.validator("state").is_valid(state) is good


@pytest.mark.parametrize(
    ("features", "good"),
    [
        ({"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0"}, True),
        ({"ociVersionMin": "1.0.0"}, False),
        ({"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "hooks": ["prestart"], "linux": None}, True),
        ({"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "hooks": "prestart"}, False),
        ({"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "linux": {"cgroup": {"v1": 1}}}, False),
        (
            {"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "linux": {"netDevices": {"enabled": True}}},
            True,
        ),
    ],
)
def test_features(features: dict[str, Any], good: bool) -> None:
    assert schema.validator("features").is_valid(features) is good

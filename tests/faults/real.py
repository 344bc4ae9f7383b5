"""Real containers from configs that are nearly right: each is created or refused, and nothing is left of it.

What is changed at random is only what cannot reach the machine: sources of mounts are the bundle's, namespaces are
those of this process, hooks are harmless programs, and the cgroup is below the harness's own.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.judging import judge, judge_process
from support.mutation import Mutator
from support.runtime import find

from faults import scenarios
from faults.harness import Harness
from faults.scenarios import Scenario

# Whatever a mutation puts there would act on the machine, or make a test that only waits.
KEPT = ("root", "cgroupsPath", "netDevices", "hooks", "sysctl", "source", "path", "unified", "quota", "period")


DESTINATIONS = ("/", "/proc", "/proc/self", "/dev", "/dev/null", "/bin/sh", "/x/../y", "x", "/sys/x", "/mnt/new/dir")


def sources(bundle: Any) -> list[Any]:
    source = str(bundle.path / "source")
    return [source, f"{source}/file", f"{source}/nosuch", "tmpfs", "proc", "", "source"]


def own_values(chosen: random.Random, config: dict[str, Any], bundle: Any, cgroup: str) -> None:
    """Changes at the places that the mutator leaves alone."""
    linux = config.get("linux")
    pick = chosen.choice
    mounts = config.get("mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        if isinstance(mount, dict) and not chosen.randrange(8):
            mount["source"] = pick(sources(bundle))
        if isinstance(mount, dict) and not chosen.randrange(12):
            mount["destination"] = pick(DESTINATIONS)
    if not chosen.randrange(10):
        config["root"] = {"path": pick(("rootfs", "nosuch", "config.json", "rootfs/bin"))}
    if not chosen.randrange(6):
        paths = pick(("/bin/true", "/bin/true", "/bin/false", "/nosuch", "/etc/passwd", "/bin"))
        hook = {"path": paths, **pick(({}, {"timeout": 5}, {"args": []}, {"env": ["A=b"]}, {"args": ["true", "x"]}))}
        config.setdefault("hooks", {})
        if isinstance(config["hooks"], dict):
            config["hooks"][pick(scenarios.HOOKS)] = [hook]
    if isinstance(linux, dict):
        if not chosen.randrange(8):
            linux["cgroupsPath"] = pick((f"{cgroup}-other", f"{cgroup}/../b", "/", "..", f"{cgroup}//.", "a\nb"))
        if not chosen.randrange(10):
            value = {"net.ipv4.ip_default_ttl": "64", "kernel.shm_rmid_forced": "1", "net.x": "y", "kernel.x": "1"}
            linux["sysctl"] = dict([pick(list(value.items()))])
        if not chosen.randrange(10):
            kind = pick(("pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time"))
            name = pick(("net", "ipc", "uts", "mnt", "pid", "user", "nosuch"))
            linux.setdefault("namespaces", [])
            if isinstance(linux["namespaces"], list):
                linux["namespaces"].append(pick(({"type": kind}, {"type": kind, "path": f"/proc/self/ns/{name}"})))


class Keeping(Mutator):
    """A mutator that leaves some members alone, and more often than not what it makes is still valid."""

    counts = (1, 1, 2)
    kinds = (0, 0, 0, 3, 4, 5, 6, 6, 7)

    def changed(self, config: Any) -> Any:
        made = super().changed(config)
        return json.loads(json.dumps(_restored(made, config)))  # a copy: what is restored is the original's own

    def value(self) -> Any:
        while isinstance(value := super().value(), (dict, list)) and "path" in json.dumps(value):
            pass
        return value


def _restored(made: Any, original: Any) -> Any:
    """`made` with the members in KEPT as the original has them, and none where it has none."""
    if isinstance(made, dict):
        before = original if isinstance(original, dict) else {}
        for key in list(made):
            if key in KEPT and made[key] != before.get(key):
                if key in before:
                    made[key] = before[key]
                else:
                    del made[key]
            elif key not in KEPT:
                made[key] = _restored(made[key], before.get(key))
    elif isinstance(made, list):
        before = original if isinstance(original, list) else []
        # Items may have moved: one that is as it was anywhere is left alone.
        return [one if one in before else _restored(one, _like(one, before)) for one in made]
    return made


def _like(one: Any, others: list[Any]) -> Any:
    """The item that `one` was made from, by the members that are never changed."""
    if isinstance(one, dict):
        for other in others:
            if isinstance(other, dict) and any(key in one and one[key] == other.get(key) for key in KEPT):
                return other
    return None


BASES = (
    Scenario("rich", scenarios.rich, ""),
    Scenario("user namespace", scenarios.user_namespace, ""),
    Scenario("plain", scenarios.sleeping, ""),
    Scenario("no namespaces", scenarios.shared_namespaces, ""),
    Scenario("guarded", scenarios.guarded, ""),
)


def create_many(count: int, seed: int, deadline: float) -> Iterator[dict[str, Any]]:
    """Create (or be refused), start, delete, look; and every fourth time an exec with a made-up process.json."""
    folder = Path(tempfile.mkdtemp(prefix="pyrt-fuzz", dir="/tmp"))
    folder.chmod(0o711)
    harness = Harness(find(), folder / "place")
    try:
        yield from _create(harness, count, seed, deadline)
    finally:
        left = harness.close()
        folder.rmdir()
    yield {"bad": len(left), "problems": left}


def _create(harness: Harness, count: int, seed: int, deadline: float) -> Iterator[dict[str, Any]]:
    chosen = random.Random(seed)
    bundles = []
    for number, base in enumerate(BASES):
        path = harness.folder / f"bundle{number}"
        bundles.append(scenarios.make_bundle(base, path, harness.base, f"{harness.cgroup_parent}/box"))
    mutator = Keeping(seed, [bundle.config for bundle in bundles])
    created: Counter[str] = Counter()
    execs: Counter[str] = Counter()
    for number in range(count):
        if time.monotonic() > deadline:
            created["not tried for want of time"] = 0
            break
        bundle = chosen.choice(bundles)
        # Most are to come past the checks: what is refused there was seen with the inputs without root.
        for _ in range(chosen.choice((1, 20, 20, 20))):
            config = mutator.changed(bundle.config)
            if isinstance(config, dict):
                own_values(chosen, config, bundle, f"{harness.cgroup_parent}/box")
            if judge(config) == "planned":
                break
        bundle.config_file.write_text(json.dumps(config))
        problems, answer = harness.try_bundle(bundle)
        created[answer] += 1
        yield from _told(problems, f"create {number} of seed {seed}", config)
        if number % 4 == 0:
            for _ in range(20):
                process = mutator.changed(bundles[4].config["process"])
                if judge_process(process) == "planned":
                    break
            problems, answer = harness.try_process(bundles[4], process)
            execs[answer] += 1
            yield from _told(problems, f"exec {number} of seed {seed}", process)
    yield {"created": created, "exec": execs}


def _told(problems: list[str], name: str, value: Any) -> Iterator[dict[str, Any]]:
    if problems:
        path = Path(tempfile.gettempdir()) / "pyruntime-fuzz" / name.replace(" ", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=1))
        words = "\n    ".join(problem.strip() for problem in problems)
        print(f"{name}: {path}\n    {words}", flush=True)
        yield {"bad": 1, "problems": [f"{name}: {path}\n    {words}"]}

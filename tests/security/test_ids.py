"""Ids that are paths, links and directories of others: no command leaves --root, follows a link, or acts on a record
that is not its user's. A `delete --force` of such an id removed the host's files, and ran a stranger's hooks as root.

Every attack runs in a mount namespace of its own, on a file system that exists only there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import leaks, proc
from support.attack import site, tree
from support.runtime import CHECKOUT, Runtime
from support.shim import Refused

from pyruntime.shim import ttrpc, wire

RECORD = {
    "version": 1,
    "bundle": "/nowhere",
    "oci_version": "1.0.2",
    "annotations": {},
    "rootfs": "/nowhere/rootfs",
    "pid": 2**22,  # no process can have it
    "start": 1,
    "created": "2024-01-01T00:00:00Z",
    "cgroups": {},
    "cgroup_manager": "cgroupfs",
    "private_pid": True,
    "host_mounts": "",
    "hooks": {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "echo run >>@.hook"]}]},
    "owner": 0,
    "extra": {},
}

# @ is the file system of the attack, $ROOT the --root of the command: @/run/pyruntime.
SETUP = """
mount -t tmpfs -o mode=755 tmpfs @
ROOT=@/run/pyruntime
mkdir -p @/etc @/run/evil @/data/box $ROOT
mkdir -m 700 $ROOT/other
cp @.record @.other
for place in @/run/evil @/data @/data/box $ROOT/other; do cp @.record $place/state.json; done
touch @/etc/shadow @/run/marker @/data/file $ROOT/other/config.json
"""
# The tree is compared, and what it holds; `delete` may write nothing anywhere.
LIST = "find @ -printf '%p %y %s %U\\n' | sort"


@dataclass
class Outcome:
    """What came of an attack. lost: what was there before and is not, or is another thing, now."""

    code: int
    said: str
    lost: list[str]
    hook: bool


@pytest.fixture
def private(runtime: Runtime):
    """`private(setup, *words)`: run a command of the runtime where `setup` has prepared the ground."""
    place = runtime.folder / "private"
    place.mkdir()

    def run(setup: str, *words: str, program: tuple[str, ...] = ()) -> Outcome:
        Path(f"{place}.record").write_text(json.dumps(RECORD).replace("@", str(place)))
        command = program or (runtime.executable.path, "--root", f"{place}/run/pyruntime")
        script = f"{SETUP}\n{setup}\n{LIST} >@.before\ncode=0; COMMAND >@.said 2>&1 </dev/null || code=$?\n"
        script += f"{LIST} >@.after; exit $code\n"
        script = script.replace("@", str(place)).replace("COMMAND", '"$@"')
        words = (*command, *(word.replace("@", str(place)) for word in words))
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-euc", script, "sh", *words],
            capture_output=True,
            text=True,
            timeout=60 * proc.SLOW,
        )
        assert not done.stderr, done.stderr
        before, after = (Path(f"{place}.{name}").read_text().splitlines() for name in ("before", "after"))
        said = Path(f"{place}.said").read_text(errors="replace")
        return Outcome(done.returncode, said, sorted(set(before) - set(after)), Path(f"{place}.hook").exists())

    return run


INVALID = ["..", "../../etc", "", "../evil", "../../data/box", ".", "./other", "other/.", "other/", "/", "a\nb", "-/.."]
# id -> what it is below --root
STRANGE = {
    "link": "ln -s ../../data/box $ROOT/link",
    "link-to-other": "ln -s other $ROOT/link-to-other",
    "dangling": "ln -s nothing $ROOT/dangling",
    "file": "cp @.record $ROOT/file",
    "fifo": "mkfifo $ROOT/fifo",
    "lost+found": "mkdir -m 700 $ROOT/lost+found",
    "backup": "mkdir -m 700 $ROOT/backup; touch $ROOT/backup/accounts.db",
    "foreign": "cp -a $ROOT/other $ROOT/foreign; chown -R 1000:1000 $ROOT/foreign",
    "mounted": "mkdir -m 700 $ROOT/mounted; chmod 700 @/data/box; mount --bind @/data/box $ROOT/mounted",
    "disk": "mkdir $ROOT/disk; mount -t tmpfs -o mode=700 tmpfs $ROOT/disk; cp @.other $ROOT/disk/state.json",
    "linked-record": "mkdir -m 700 $ROOT/linked-record; ln -s @/data/state.json $ROOT/linked-record/state.json",
    "fifo-record": "mkdir -m 700 $ROOT/fifo-record; mkfifo $ROOT/fifo-record/state.json",
}


def require_untouched(outcome: Outcome) -> None:
    """A refusal in words, and nothing else."""
    assert (outcome.lost, outcome.hook) == ([], False), outcome.said
    assert outcome.code == 1, outcome.said
    assert outcome.said.count("\n") == 1
    assert "bug in pyruntime" not in outcome.said


@pytest.mark.ours
@pytest.mark.parametrize("id", INVALID)
def test_delete_of_what_is_not_an_id(private, id):
    outcome = private("", "delete", "--force", "--", id)
    require_untouched(outcome)
    assert "container id" in outcome.said


@pytest.mark.ours
@pytest.mark.parametrize("id", STRANGE)
def test_delete_of_what_is_not_a_container(private, id):
    require_untouched(private(STRANGE[id], "delete", "--force", id))


@pytest.mark.ours
def test_delete_of_a_container(private):
    """That the attacks above would have been seen."""
    outcome = private("", "delete", "other")
    assert (outcome.code, outcome.hook) == (0, True), outcome.said
    assert [line.split()[0].rpartition("pyruntime")[2] for line in outcome.lost] == [
        "",
        "/other",
        "/other/config.json",
        "/other/state.json",
    ]


@pytest.mark.ours
def test_delete_of_a_container_that_does_not_exist(private):
    """As runc: engines call it once more than needed."""
    outcome = private("", "delete", "--force", "unknown")
    assert (outcome.code, outcome.said, outcome.lost, outcome.hook) == (0, "", [], False)


INSIDE = {
    "a link": "ln -s @/data $ROOT/other/notify",
    "a link below": "mkdir -p $ROOT/other/notify/below; ln -s @/data $ROOT/other/notify/below/link",
    "a hard link": "ln @/data/file $ROOT/other/file",
}


@pytest.mark.ours
@pytest.mark.parametrize("what", INSIDE)
def test_delete_follows_nothing_inside(private, what):
    """What lies in the directory of a container goes with it, and what it leads to stays."""
    outcome = private(INSIDE[what], "delete", "--force", "other")
    assert (outcome.code, outcome.hook) == (0, True), outcome.said
    assert [line for line in outcome.lost if "/run/pyruntime" not in line] == []


MOUNTS_INSIDE = {
    "a directory": "mkdir $ROOT/other/notify; mount --bind @/data $ROOT/other/notify",
    "a directory below": "mkdir -p $ROOT/other/notify/below; mount --bind @/data $ROOT/other/notify/below",
    "a file": "touch $ROOT/other/file; mount --bind @/data/file $ROOT/other/file",
    "a file system": "mkdir $ROOT/other/notify; mount -t tmpfs tmpfs $ROOT/other/notify; touch $ROOT/other/notify/x",
}


@pytest.mark.ours
@pytest.mark.parametrize("what", MOUNTS_INSIDE)
def test_delete_does_not_cross_a_mount(private, what):
    outcome = private(MOUNTS_INSIDE[what], "delete", "--force", "other")
    assert outcome.code == 1
    assert "mounted" in outcome.said
    assert [line for line in outcome.lost if "/data" in line or "notify" in line] == []


VERBS = {
    "start": ("ID",),
    "state": ("ID",),
    "kill": ("ID", "KILL"),
    "delete": ("ID",),
    "exec": ("ID", "true"),
    "ps": ("ID",),
    "pause": ("ID",),
    "resume": ("ID",),
    "update": ("--memory", "1000000", "ID"),
    "events": ("--stats", "ID"),
    "checkpoint": ("--image-path", "@/images", "ID"),
    "restore": ("--bundle", "@/bundle", "--image-path", "@/images", "ID"),
    "create": ("--bundle", "@/bundle", "ID"),
    "run": ("--bundle", "@/bundle", "ID"),
    "audit": ("ID",),
}


@pytest.mark.ours
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("id", ["../evil", ""])
def test_every_command(private, verb, id):
    words = (id if word == "ID" else word for word in VERBS[verb])
    outcome = private("", verb, *words)
    assert outcome.code != 0
    assert "container id" in outcome.said
    assert outcome.lost == []


LOOKS_BELOW = sorted(set(VERBS) - {"restore", "create", "run"})


@pytest.mark.ours
@pytest.mark.parametrize("verb", LOOKS_BELOW)
@pytest.mark.parametrize("id", ["link", "foreign", "file"])
def test_every_command_on_what_is_not_a_container(private, verb, id):
    words = (id if word == "ID" else word for word in VERBS[verb])
    outcome = private(STRANGE[id], verb, *words)
    assert outcome.code != 0
    assert (outcome.lost, outcome.hook) == ([], False)
    assert "bug in pyruntime" not in outcome.said


@pytest.mark.ours
def test_list_shows_containers_only(private):
    """What else lies below --root hides none."""
    outcome = private("; ".join(STRANGE.values()), "list", "--quiet")
    assert outcome.code == 0
    assert outcome.said.splitlines()[-1] == "other"


LIBRARY = """
import sys
sys.path[:0] = {path!r}
import pyruntime
with pyruntime.Container(sys.argv[1], root=sys.argv[2]):
    pass
"""


@pytest.mark.ours
@pytest.mark.parametrize("id", ["..", "", "../evil", "link", "foreign"])
def test_the_library(private, id):
    program = sys.executable, "-c", LIBRARY.format(path=[str(CHECKOUT), site()])
    outcome = private(STRANGE.get(id, ""), id, "@/run/pyruntime", program=program)
    assert outcome.code != 0
    assert (outcome.lost, outcome.hook) == ([], False)
    assert "pyruntime.errors.StateError" in outcome.said.splitlines()[-1]


SHIM = CHECKOUT / "build/bin/containerd-shim-pyruntime-v1"
NOTE = """printf '{"root": "%s", "systemd_cgroup": false, "mounted": false}' $ROOT >@/data/pyruntime.json"""


@pytest.mark.ours
@pytest.mark.parametrize("id", ["..", "", "../evil", "link", "foreign"])
def test_the_shims_delete(private, id):
    """What containerd calls after a SIGKILL of a shim. It answers in any case: containerd would ask for ever."""
    words = "-namespace", "ns", "-address", "@", "-bundle", "@/data", "-id", id, "delete"
    outcome = private(f"{NOTE}\n{STRANGE.get(id, '')}", *words, program=(str(SHIM),))
    assert (outcome.lost, outcome.hook) == ([], False), outcome.said


def options(root: Path) -> dict[str, object]:
    """Options of Create with a root of their own: a hole in the shim does no harm to another test."""
    return {"type_url": "containerd.runc.v1.Options", "value": wire.encode("Options", {"root": str(root)})}


@pytest.fixture
def asked(task, scratch: Path):
    """`asked(id, **values)`: ask a shim for Create and Delete. Gives back its answer to Create, and what is gone then.

    What is restored is not looked at before Start: so a checkpoint brings the id furthest."""
    one = task(["/bin/true"])
    place = scratch / "asked"
    root = place / "root"
    namespace = root / one.containerd.namespace
    for folder in (namespace, root / "evil", namespace / "other"):
        folder.mkdir(parents=True)
        folder.chmod(0o700)
        (folder / "state.json").write_text(json.dumps({**RECORD, "hooks": {}}))
    (namespace / "link").symlink_to("../evil")
    before = tree(place)

    def ask(id: str, **values):
        request = {"id": id, "bundle": str(one.path), "options": options(root), "checkpoint": "/nowhere", **values}
        answer = None
        try:
            one.client.call("Create", "CreateTaskRequest", "PidResponse", **request)
        except Refused as refused:
            answer = refused
        try:
            one.client.call("Delete", "ProcessRequest", "DeleteResponse", id=id)
        except Refused:
            pass
        return answer, sorted(set(before) - set(tree(place)))

    yield ask
    leaks.remove_tree(place)


@pytest.mark.ours
@pytest.mark.parametrize("id", ["..", "", "../evil", ".", "a/../other"])
def test_the_shims_create(asked, id):
    answer, gone = asked(id)
    assert gone == []
    assert answer is not None
    assert answer.code == ttrpc.INVALID
    assert "container id" in str(answer)


@pytest.mark.ours
def test_the_shims_create_of_a_link(asked):
    """It is a valid id; Delete finds that it is not a container."""
    _, gone = asked("link")
    assert gone == []


@pytest.mark.ours
@pytest.mark.parametrize("path", ["", "/", "relative", "/a/../b", "/a/./b", "///"])
def test_the_shims_bundle(asked, path):
    answer, _ = asked("box", bundle=path)
    assert answer is not None
    assert answer.code == ttrpc.INVALID
    assert "bundle" in str(answer)


@pytest.mark.ours
@pytest.mark.parametrize("id", ["", "..", "../x", "a/b"])
def test_the_shims_exec(task, id):
    one = task(["/bin/sleep", "60"])
    one.create()
    one.start()
    with pytest.raises(Refused, match="exec id"):
        one.exec(id, "/bin/true")
    one.kill()
    one.wait()
    one.delete()


@pytest.mark.ours
@pytest.mark.parametrize("command", ["start", "delete"])
@pytest.mark.parametrize(("id", "namespace"), [("..", "ns"), ("", "ns"), ("box", ".."), ("box", ""), ("box", "a/b")])
def test_the_shims_command_line(private, command, id, namespace):
    words = "-namespace", namespace, "-address", "@", "-bundle", "@/data", "-id", id, command
    outcome = private(NOTE, *words, program=(str(SHIM),))
    require_untouched(outcome)
    assert ("container id" if namespace == "ns" else "namespace") in outcome.said

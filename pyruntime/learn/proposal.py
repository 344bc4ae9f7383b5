"""A config.json of what was seen: each change with the field, the value before and after, and the reason."""

from __future__ import annotations

from pyruntime.features.process.capabilities import SETS
from pyruntime.learn import profile, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.learn.profile import Document

_MIB = 1 << 20


class Proposal:
    """config: the learnt one. changes: [{pointer, from, to, reason}]. advice: what is left to a person. notes: what
    could not be seen or done."""

    def __init__(self, config: Document, report: Document) -> None:
        self.config = config
        self.report = report
        self.changes: list[Document] = []
        self.advice: list[str] = []
        self.notes: list[str] = []
        self._seccomp()
        self._capabilities()
        self._root()
        self._limits()

    def change(self, pointer: str, before: object, after: object, reason: str) -> None:
        """Note a change that was made."""
        if before != after:
            self.changes.append({"pointer": pointer, "from": before, "to": after, "reason": reason})

    def _seccomp(self) -> None:
        linux = self.config.setdefault("linux", {})
        given = linux.get("seccomp")
        calls = self.report["syscalls"]
        names = {*calls["seen"], *calls["compat"], *calls["runtime"]}
        self.docker = profile.for_docker(given, names, compat=bool(calls["compat"]))
        linux["seccomp"], notes = profile.learnt(given, names, compat=bool(calls["compat"]))
        # What the runtime alone calls, and the given profile denies, is not reported: the container ran.
        own = set(calls["runtime"]) - {*calls["seen"], *calls["compat"]}
        self.notes += [note for note in notes if note.split(": ", 1)[1].split(" ", 1)[0] not in own]
        before = profile.allowed(given)
        now = profile.allowed(linux["seccomp"]) or set()
        self.change(
            "/linux/seccomp",
            "all system calls" if before is None else f"{len(before)} system calls",
            f"{len(now)} system calls",
            f"{len(calls['seen'])} were called; {len(own)} more are the runtime's own",
        )

    def _capabilities(self) -> None:
        used = self.report["capabilities"]["used"]
        sets = (self.config.get("process") or {}).get("capabilities")
        if used is None or not sets:
            return
        for name in SETS:
            before = sets.get(name)
            if before:
                sets[name] = [one for one in before if one in used]
                gone = [one for one in before if one not in used]
                self.change(f"/process/capabilities/{name}", before, sets[name], f"never used: {' '.join(gone)}")
        if self.report["syscalls"]["seen"].count("capset"):
            self.advice.append(
                "the program calls capset(2): a capability that it raises without using it is not in the sets"
            )

    def _root(self) -> None:
        root = self.config.get("root") or {}
        if root.get("readonly") or not self.report["paths"]["root_seen"]:
            return
        places = self.report["paths"]["root_directories"]
        lasting = [path for path in places if not written.is_ephemeral(path)]
        for path in lasting:
            if path == "/":
                self.advice.append("entries of / were made or removed: make the image with them, or without")
            else:
                self.advice.append(f"{path} was written to and may have to last: mount a volume there")
        if lasting:
            self.advice.append("root.readonly stays false: it can be true once these directories are mounts")
            return
        root["readonly"] = True
        reason = f"written to: {', '.join(places)}, now tmpfs" if places else "nothing below it was written to"
        self.change("/root/readonly", False, True, reason)
        mounts = self.config.setdefault("mounts", [])
        for path in written.top(self._ephemeral_root(path) for path in places):
            mode = "mode=1777" if path.endswith("tmp") or path == "/dev/shm" else "mode=0755"
            mount = {
                "destination": path,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "nodev", mode, "tmpcopyup"],
            }
            mounts.append(mount)
            self.change(f"/mounts/{len(mounts) - 1}", None, mount, "written to, and may be lost at the next start")

    def _ephemeral_root(self, path: str) -> str:
        """Return the directory of EPHEMERAL that a path is below, as a mount of it is in the rootfs (/var/run is a
        link)."""
        for directory in written.EPHEMERAL:
            if written.is_below(path, directory):
                return directory
        return path

    def _limits(self) -> None:
        resources = self.config["linux"].setdefault("resources", {})
        memory, pids = self.report["peaks"].get("memory"), self.report["peaks"].get("pids")
        if memory:
            limit = max(16 * _MIB, -(-2 * memory // _MIB) * _MIB)
            self._limit(resources, "memory", limit, f"twice the peak of {memory} bytes")
        if pids:
            limit = max(2 * pids, pids + 16)
            self._limit(resources, "pids", limit, f"twice the peak of {pids} processes and threads, at least 16 more")

    def _limit(self, resources: Document, name: str, limit: int, reason: str) -> None:
        section = resources.setdefault(name, {})
        before = section.get("limit")
        if before is None or before <= 0 or before > limit:
            section["limit"] = limit
            self.change(f"/linux/resources/{name}/limit", before, limit, reason)

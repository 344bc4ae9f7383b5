"""Check the path of the container's cgroup, and the limits in its files."""

from __future__ import annotations

import posix

from pyruntime.audit.comparison import Comparison, as_asked, cannot_see, drifted
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.kernel.constants import ENOENT
from pyruntime.util import ranges
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.audit.view import View
    from pyruntime.plan.request import Request

_PAGE = 4096
# cgroup v1 shows "no limit" as LONG_MAX rounded down to a page.
_UNLIMITED = 2**63 // _PAGE * _PAGE - _PAGE
_POINTER = "/linux/cgroupsPath"


def place(view: View, request: Request, directories: dict[str, str]) -> Iterator[Comparison]:
    """Check that init is in the requested cgroups. directories: hierarchy -> cgroup."""
    path = request.linux.get("cgroupsPath")
    if not directories:
        if path:
            yield cannot_see(_POINTER, f"the cgroup {path}", "the path is the engine's to make something of")
        return
    elsewhere = []
    below = False
    for hierarchy in view.layout.hierarchies:
        asked, found = directories.get(hierarchy.name), view.cgroups.get(hierarchy.name)
        if asked is None or not hierarchy.controllers or (hierarchy.name == UNIFIED and view.layout.kind == "hybrid"):
            continue  # a named hierarchy, or a controller that only some runtimes use
        if found is None:
            yield cannot_see(_POINTER, f"the cgroup {asked}", "it is not below this process's root of cgroups")
            return
        if found != asked:
            below = found.startswith(asked + "/")
            if not below:
                elsewhere.append((asked, found))
    what = f"the cgroup {path or 'of the container'}"
    if elsewhere:
        yield drifted(_POINTER, what, elsewhere[0][0], elsewhere[0][1], f"in {len(elsewhere)} hierarchies")
    else:
        yield as_asked(_POINTER, what, "in one below it" if below else "")


class Limits:
    """Read limits from the container's cgroups: those of init, or the ancestor that config.json names."""

    def __init__(self, view: View, request: Request, directories: dict[str, str]) -> None:
        self.directories = dict(view.cgroups)
        resources = request.linux.get("resources") or {}
        self.shares: int = (resources.get("cpu") or {}).get("shares") or 0
        for name, asked in directories.items():
            found = view.cgroups.get(name)
            # systemd in a container moves itself to a child cgroup; the limits are in the parent.
            if found is not None and found.startswith(asked + "/"):
                self.directories[name] = asked

    def write(
        self, view: View, pointer: str, hierarchy: str, file: str, value: str, **_: object
    ) -> Iterator[Comparison]:
        """Compare a file with a value."""
        yield self._one(pointer, hierarchy, [[file, value]])

    def write_together(
        self, view: View, pointer: str, hierarchy: str, writes: list[list[str]], **_: object
    ) -> Iterator[Comparison]:
        """Several files."""
        for file, value in writes:
            yield self._one(pointer, hierarchy, [[file, value]])

    def write_first(
        self, view: View, pointer: str, hierarchy: str, choices: list[list[str]], **_: object
    ) -> Iterator[Comparison]:
        """Compare the first existing one of several files."""
        yield self._one(pointer, hierarchy, choices)

    def write_lines(
        self, view: View, pointer: str, hierarchy: str, file: str, value: list[str], **_: object
    ) -> Iterator[Comparison]:
        """Compare a file with an entry per device."""
        what = f"{file} = {', '.join(value)}"
        text = self._read(hierarchy, file)
        if isinstance(text, OSError):
            yield cannot_see(pointer, what, str(text.strerror))
            return
        entries = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
        for line in value:
            key, *wanted = line.split()
            found = entries.get(key, [])
            if not set(map(_number, wanted)) <= set(map(_number, found)):
                yield drifted(pointer, what, line, " ".join([key, *found]) if found else "no entry")
                return
        yield as_asked(pointer, what)

    def checks(self) -> dict[str, Callable[..., Iterator[Comparison]]]:
        """Return `module.function` of a step -> what looks at it."""
        names = ("write", "write_together", "write_first", "write_lines")
        return {f"setting.{name}": getattr(self, name) for name in names} | {"setting.write_if_possible": self.write}

    def _one(self, pointer: str, hierarchy: str, choices: list[list[str]]) -> Comparison:
        why = ""
        for file, value in choices:
            what = f"{file} = {value}"
            text = self._read(hierarchy, file)
            if isinstance(text, OSError):
                why = str(text.strerror)
            elif same(file, value, text):
                return as_asked(pointer, what)
            elif file == "cpu.weight" and text.strip() == str(_older_weight(self.shares)):
                return as_asked(pointer, what, f"{text.strip()}, by the conversion of shares up to 2025")
            else:
                return drifted(pointer, what, value, _shown(text.strip()))
        return cannot_see(pointer, what, why)

    def _read(self, hierarchy: str, file: str) -> str | OSError:
        directory = self.directories.get(hierarchy)
        if directory is None:
            return OSError(ENOENT, "the container's cgroup is not to be seen from here")
        try:
            return read_file(f"{directory}/{file}")
        except OSError as error:
            return error


def same(file: str, asked: str, found: str) -> bool:
    """Return whether a file has the value written to it, in the format of the kernel."""
    asked, found = asked.strip(), found.strip()
    if asked == found:
        return True
    if file.startswith("cpuset.") and not asked.isalpha():
        try:
            return ranges.parse(asked) == ranges.parse(found)
        except ValueError:
            return False
    if file == "memory.oom_control":
        return f"oom_kill_disable {asked}" in found.splitlines()
    if file in ("cpu.max", "io.bfq.weight", "io.weight", "blkio.bfq.weight"):
        # One of several values, or with "default" before it.
        words = [word for word in found.split() if word != "default"]
        return words[: len(asked.split())] == [word for word in asked.split() if word != "default"]
    one, other = _number(asked), _number(found)
    if isinstance(one, int) and isinstance(other, int) and (file.startswith("memory.") or ".limit_in_bytes" in file):
        return _whole_pages(one, file) == _whole_pages(other, file)
    return one == other


def _older_weight(shares: int) -> int:
    """cpu.weight for shares as runtimes had it until 2025: linear, so that 1024 is 39, and not 100."""
    return 1 + (shares - 2) * 9999 // 262142


def _whole_pages(number: int, file: str) -> int:
    if number < 0 or number >= _UNLIMITED:
        return -1
    if file == "memory.swappiness":
        return number
    size = posix.sysconf(posix.sysconf_names["SC_PAGESIZE"])
    if file.startswith("hugetlb."):
        amount, unit = file.split(".")[1][:-2], file.split(".")[1][-2:]
        size = int(amount) * {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[unit]
    return number // size


def _number(word: str) -> int | str:
    if word == "max":
        return -1
    try:
        return int(word, 0)
    except ValueError:
        return word


def _shown(text: str) -> str:
    return "unlimited" if text.isdigit() and int(text) >= _UNLIMITED else text

"""explain --diff: which steps of two plans differ, and by which fields of config.json."""

from __future__ import annotations

import difflib
import posix

from pyruntime.cli.explain import TITLES, absolute, all_steps, namespaces_of, request_of
from pyruntime.cli.main import write_output
from pyruntime.errors import UsageError
from pyruntime.plan.step import BUILD, PHASES
from pyruntime.spec import check, load
from pyruntime.state import store
from pyruntime.util import colour, fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings
    from pyruntime.plan.step import Step
    from pyruntime.util.colour import Painter

    # A step is the same one in both plans if these are equal: phase, `module.function`, what it acts on, and which of
    # several such steps it is.
    Key = tuple[str, str, str, int]
    Steps = dict[Key, tuple[Step, object]]

    class Difference(TypedDict):
        """One step. change: added, removed, changed or moved; fields, does, values: of A and of B."""

        change: str
        phase: str
        step: str
        fields: list[str | None]
        does: list[str | None]
        arguments: dict[str, list[object]]
        values: list[object]


DIFFERENT = 2  # the exit status when a step differs, as of audit

# What a step acts on: the first of these arguments that it has.
_IDENTITIES = ("destination", "path", "limit", "file", "kind", "set", "name", "hook", "key")
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}
_LONGEST = 300


class Side:
    """One of the two: a bundle, or the container with an id.

    name: what it is called in the output. bundle: its path, which is no difference by itself."""

    def __init__(self, settings: Settings, values: Values, word: str) -> None:
        if "/" in word or posix.access(f"{word}/config.json", posix.F_OK):
            self.bundle = absolute(word).rstrip("/")
            self.name = word
            config = load.load_config(self.bundle)
        else:
            record = store.load(settings.root, ContainerId(word))
            self.bundle = record.bundle
            self.name = f"{word} (container)"
            config = load.load_object(record.path(store.CONFIG))
        for problem in check.require(config):
            settings.log.warning(f"{self.name}: config.json: {problem}")
        request = request_of(settings, values, config, self.bundle)
        self.steps: Steps = {}
        for phase, steps in all_steps(request).items():
            for step in steps:
                self._add(phase, step, config)
        self.namespaces = {kind: f"{way} {path}".rstrip() for kind, way, path in namespaces_of(request)}

    def _add(self, phase: str, step: Step, config: object) -> None:
        found = next((str(step.args[name]) for name in _IDENTITIES if name in step.args), "")
        if step.name.startswith(("capabilities.", "hostname.")):
            found = ""
        number = 0
        while (key := (phase, step.name, self._plain(found), number)) in self.steps:
            number += 1
        self.steps[key] = step, value_at(config, step.pointer)

    def arguments(self, step: Step) -> dict[str, object]:
        """Return the arguments, with BUNDLE for the path of the bundle."""
        plain: dict[str, object] = fastjson.loads(self._plain(fastjson.dumps(step.args)))
        return plain

    def _plain(self, text: str) -> str:
        return text.replace(f"{self.bundle}/", "BUNDLE/") if self.bundle else text


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the differences: 0 when there is none, else 2."""
    if len(words) != 2 or values["format"] not in ("text", "json"):
        raise UsageError(
            "explain --diff takes two bundles or ids, and --format text or json", hint="see: pyruntime explain --help"
        )
    sides = [Side(settings, values, word) for word in words]
    a, b = sides
    found = differences(a, b)
    if values["format"] == "json":
        text = fastjson.dumps({"a": a.name, "b": b.name, "differences": found}, indent=2) + "\n"
    else:
        text = _as_text(a, b, found, colour.of(1))
    write_output(text)
    return DIFFERENT if found else 0


def differences(a: Side, b: Side) -> list[Difference]:
    """Return the namespaces and steps that differ, in the order of the plan."""
    found = [
        _difference(
            "changed",
            BUILD,
            "namespaces",
            ["/linux/namespaces"] * 2,
            [f"{kind}: {way}", f"{kind}: {b.namespaces[kind]}"],
        )
        for kind, way in a.namespaces.items()
        if b.namespaces[kind] != way
    ]
    moved = _moved([key for key in a.steps if key in b.steps], [key for key in b.steps if key in a.steps])
    for key in sorted({**a.steps, **b.steps}, key=lambda one: PHASES.index(one[0])):
        phase, name, _, _ = key
        own, other = a.steps.get(key), b.steps.get(key)
        if own is None or other is None:
            pair = [own, other]
            found.append(
                _difference(
                    "removed" if other is None else "added",
                    phase,
                    name,
                    [None if one is None else one[0].pointer for one in pair],
                    [None if one is None else one[0].describe() for one in pair],
                    values=[None if one is None else one[1] for one in pair],
                )
            )
            continue
        before, after = a.arguments(own[0]), b.arguments(other[0])
        if before == after and key not in moved:
            continue
        found.append(
            _difference(
                "moved" if before == after else "changed",
                phase,
                name,
                [own[0].pointer, other[0].pointer],
                [own[0].describe(), other[0].describe()],
                {one: [before.get(one), after.get(one)] for one in before if before.get(one) != after.get(one)},
                [own[1], other[1]],
            )
        )
    return found


def value_at(config: object, pointer: str) -> object:
    """Return the value at a JSON pointer, None where there is none."""
    if not pointer:
        return None
    found = config
    for part in pointer[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def _difference(
    change: str,
    phase: str,
    step: str,
    fields: list[str | None] | list[str],
    does: list[str | None] | list[str],
    arguments: dict[str, list[object]] | None = None,
    values: list[object] | None = None,
) -> Difference:
    return {
        "change": change,
        "phase": phase,
        "step": step,
        "fields": [*fields],
        "does": [*does],
        "arguments": arguments or {},
        "values": values or [None, None],
    }


def _moved(own: list[Key], other: list[Key]) -> set[Key]:
    """Return the steps of both plans whose order among them differs."""
    if own == other:
        return set()
    kept: set[Key] = set()
    for block in difflib.SequenceMatcher(None, own, other, autojunk=False).get_matching_blocks():
        kept.update(own[block.a : block.a + block.size])
    return set(own) - kept


def _as_text(a: Side, b: Side, found: list[Difference], paint: Painter) -> str:
    if not found:
        return f"{a.name} and {b.name}: no step differs\n"
    lines = [f"--- {a.name}", f"+++ {b.name}"]
    width = max(len(_field(one)) for one in found)
    phase = ""
    for one in found:
        if one["phase"] != phase:
            phase = one["phase"]
            lines.append(paint(": ".join(TITLES[phase]), "bold"))
        does = one["does"][1] if one["does"][0] is None or one["change"] == "moved" else one["does"][0]
        if one["step"] == "namespaces":
            does = " -> ".join(str(word) for word in one["does"])
        lines.append(f"  {_SIGNS[one['change']]} {paint(_field(one).ljust(width), 'blue')}  {does}")
        if one["values"][0] != one["values"][1] and one["change"] == "changed":
            lines += [f"      {line}" for line in _values(*one["values"])]
        elif one["arguments"]:
            lines += [f"      {name}: {_short(old)} -> {_short(new)}" for name, (old, new) in one["arguments"].items()]
    lines.append(f"{len(found)} differ" if len(found) > 1 else "1 differs")
    return "\n".join(lines) + "\n"


def _field(one: Difference) -> str:
    own, other = one["fields"]
    if own and other and own != other:
        return f"{own} {other}"
    return other or own or ""


def _values(own: object, other: object) -> list[str]:
    """Return how two values of config.json differ, by members and items if they have some."""
    if isinstance(own, list) and isinstance(other, list):
        gone = [_short(one) for one in own if one not in other]
        new = [_short(one) for one in other if one not in own]
        if gone or new:
            return [*(f"- {one}" for one in gone), *(f"+ {one}" for one in new)]
    if isinstance(own, dict) and isinstance(other, dict):
        names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
        return [f"{name}: {_short(own.get(name))} -> {_short(other.get(name))}" for name in names]
    return [f"{_short(own)} -> {_short(other)}"]


def _short(value: object) -> str:
    text = "(none)" if value is None else fastjson.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

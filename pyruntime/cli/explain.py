"""explain: what would be done for a bundle, in order, without doing any of it and without root."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import UsageError
from pyruntime.features import registry
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.plan.request import Request
from pyruntime.plan.step import (
    BECOME,
    BUILD,
    ENTER,
    EXECUTE,
    HOOKS,
    PHASES,
    PREPARE,
    READY,
    SETUP,
    SPAWNED,
    STARTED,
    STOPPED,
    Step,
)
from pyruntime.spec import check, load
from pyruntime.util import colour, fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.spec.sections import Config
    from pyruntime.util.colour import Painter

USAGE = "[BUNDLE], or --diff BUNDLE|ID BUNDLE|ID"
FLAGS = (
    Flag("format", "output format", short="f", value="text|json|html", default="text"),
    Flag("diff", "show which steps of two bundles, or of a bundle and a container, differ"),
    Flag("no-pivot", "like create --no-pivot"),
    Flag("no-new-keyring", "like create --no-new-keyring"),
)

# phase -> (who does it, where and when)
TITLES = {
    PREPARE: ("parent", "before there is a process"),
    SETUP: ("parent", "init is cloned into its namespaces and waits for its plan"),
    BUILD: ("init", "in the new namespaces, still in the host's tree"),
    HOOKS: ("parent", "init waits"),
    ENTER: ("init", "into the new root"),
    READY: ("parent", "init is ready and waits"),
    BECOME: ("init", "becomes the user's process; then it waits for start"),
    SPAWNED: ("parent", "the process that executes the program exists and waits"),
    EXECUTE: ("init", "start was called"),
    STARTED: ("parent of start", "the user's process runs"),
    STOPPED: ("parent of delete", "the user's process is gone"),
}


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the plan, or how two plans differ."""
    if values["diff"]:
        from pyruntime.cli import explain_diff

        return explain_diff.run(settings, values, words)
    if len(words) > 1 or values["format"] not in ("text", "json", "html"):
        raise UsageError(
            "explain takes a bundle, and --format text, json or html", hint="see: pyruntime explain --help"
        )
    bundle = absolute(words[0] if words else ".")
    config = load.load_config(bundle)
    problems = check.require(config)
    for problem in problems:
        settings.log.warning(f"config.json: {problem}")
    request = request_of(settings, values, config, bundle)
    steps = all_steps(request)
    if values["format"] == "html":
        text = _as_page(request, steps, [str(problem) for problem in problems])
    else:
        text = _as_json(steps) if values["format"] == "json" else _as_text(request, steps, colour.of(1))
    write_output(text)
    return 0


def absolute(bundle: str) -> str:
    """Return the absolute path of a bundle."""
    if bundle.startswith("/"):
        return bundle
    return f"{posix.getcwd()}/{bundle}" if bundle != "." else posix.getcwd()


def request_of(settings: Settings, values: Values, config: Config, bundle: str) -> Request:
    """Return what the plan of a bundle is made from."""
    return Request(
        config,
        id=ContainerId("ID"),
        bundle=bundle.rstrip("/"),
        layout=layout.find(),
        rootless=settings.rootless,
        pivot=not values["no-pivot"],
        new_keyring=not values["no-new-keyring"],
    )


def all_steps(request: Request) -> dict[str, list[Step]]:
    """Return the plan of `create`, and what `start` and `delete` will do from the state record."""
    plan = registry.build(request)
    configured = request.config.get("hooks")
    if configured:
        from pyruntime.features import hooks

        plan.steps[STARTED].extend(hooks.plan_poststart(configured))
        plan.steps[STOPPED].extend(hooks.plan_poststop(configured))
    return plan.steps


def namespaces_of(request: Request) -> list[tuple[str, str, str]]:
    """Return (kind, "new", "joined" or "host", path) of every namespace that init is in."""
    found = []
    for kind in KINDS:
        own, path = request.namespace(kind)
        found.append((kind, "joined" if path else "new" if own else "host", path))
    return found


def _as_text(request: Request, steps: dict[str, list[Step]], paint: Painter) -> str:
    lines = []
    number = 0
    width = max((len(step.pointer) for phase in PHASES for step in steps[phase]), default=0)
    ways: dict[str, list[str]] = {"new": [], "joined": [], "host": []}
    for kind, way, path in namespaces_of(request):
        ways[way].append(f"{kind} ({path})" if path else kind)
    where_init_is = "; ".join(
        f"{words} {' '.join(ways[way])}"
        for way, words in (("new", "new:"), ("joined", "joined:"), ("host", "the caller's:"))
        if ways[way]
    )
    for phase in PHASES:
        if not steps[phase]:
            continue
        who, where = TITLES[phase]
        lines.append(f"{paint(who, 'bold')}: {where}")
        if phase == BUILD:
            lines.append(f"  namespaces: {where_init_is}")
        for step in steps[phase]:
            number += 1
            lines.append(f"  {number:3}  {paint(step.pointer.ljust(width), 'blue')}  {step.describe()}")
    return "\n".join(lines) + "\n"


def _as_page(request: Request, steps: dict[str, list[Step]], warnings: list[str]) -> str:
    from pyruntime.cli.explain_page import page

    user = request.process.get("user") or {}
    facts = [
        ("program", " ".join(request.process.get("args") or ["nothing"])),
        ("user", f"{user.get('uid') or 0}:{user.get('gid') or 0}"),
        ("bundle", request.bundle),
        ("rootfs", request.rootfs()),
        ("cgroup", f"{request.linux.get('cgroupsPath') or 'named by the id'} ({request.layout.kind})"),
    ]
    phases = [(phase, *TITLES[phase], steps[phase]) for phase in PHASES]
    return page(facts, namespaces_of(request), [*warnings, *request.warnings], phases)


def _as_json(steps: dict[str, list[Step]]) -> str:
    found = [
        {
            "phase": phase,
            "actor": TITLES[phase][0],
            "step": step.name,
            "field": step.pointer,
            "does": step.describe(),
            "arguments": step.args,
        }
        for phase in PHASES
        for step in steps[phase]
    ]
    return fastjson.dumps(found, indent=2) + "\n"

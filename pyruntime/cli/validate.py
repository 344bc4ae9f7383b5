"""validate: everything that is wrong with a config.json, at once, without root: in itself, and on this host."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.cli import findings_text
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.diagnose import bundle_checks as host_bundle
from pyruntime.diagnose import host_checks
from pyruntime.diagnose.finding import Finding, of_error
from pyruntime.errors import ConfigError, PyruntimeError, UsageError
from pyruntime.features import registry
from pyruntime.features.namespaces.namespaces import arrange
from pyruntime.kernel.constants import S_IFMT, S_IFREG
from pyruntime.plan.request import Request
from pyruntime.spec import check, load
from pyruntime.spec.position import Positions
from pyruntime.util import colour
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.spec.sections import Config

USAGE = "[BUNDLE|FILE|-]"
FLAGS = (
    Flag("format", "output format", short="f", value="table|json|github|sarif", default="table"),
    Flag("against", "compare only with what learn has written to DIR", value="DIR"),
    Flag("no-host", "omit checks of this host: files, kernel, cgroups, users"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the findings: 0 when there is no error among them, 1 when there is."""
    if len(words) > 1 or values["format"] not in findings_text.FORMATS:
        raise UsageError(
            f"validate takes a bundle, a file or -, and --format {', '.join(findings_text.FORMATS)}",
            hint="see: pyruntime validate --help",
        )
    bundle = words[0] if words else "."
    file = "config.json" if bundle in ("-", ".") else f"{bundle.rstrip('/')}/config.json"
    if bundle != "-" and not bundle.endswith("/") and _is_file(bundle):
        file = bundle
        bundle = bundle.rpartition("/")[0] or ("/" if bundle.startswith("/") else ".")
    text = ""
    try:
        data = _standard_input() if bundle == "-" else load.read_file(file)
        text = data.decode("utf-8", "replace")
        config = load.parse_object(data, "standard input" if bundle == "-" else file)
        if values["against"]:
            from pyruntime.learn import against

            check.require(config)
            found = against.findings(dict(config), values["against"])
        else:
            found = findings(config, bundle, settings, host=not values["no-host"])
    except ConfigError as error:  # no JSON at all
        found = [of_error(error, "json")]
    shown = findings_text.shown(found, values["format"], file=file, positions=Positions(text), paint=colour.of(1))
    write_output(shown)
    return 1 if any(one.severity == "error" for one in found) else 0


def _is_file(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & S_IFMT == S_IFREG
    except (OSError, ValueError):
        return False


def _standard_input() -> bytes:
    data = bytearray()
    while chunk := posix.read(0, 1 << 16):
        data += chunk
    return bytes(data)


def findings(config: Config, bundle: str, settings: Settings, *, host: bool) -> list[Finding]:
    """Return what the schema, the rules, the plan and this host have to say, each thing once."""
    problems = check.check(config)
    found = [
        Finding(
            "warning" if problem.warning else "error",
            problem.pointer,
            problem.message,
            why=problem.why or "",
            hint=problem.hint or "",
            rule="schema",
        )
        for problem in problems
    ]
    if any(not problem.warning for problem in problems):
        return found  # planning reads a config that fits its schema
    absolute = bundle if bundle.startswith("/") else f"{posix.getcwd()}/{bundle}"
    request = Request(
        config,
        id=ContainerId("ID"),
        bundle=absolute.rstrip("/").removesuffix("/."),
        layout=layout.find(),
        rootless=settings.rootless,
        systemd_cgroup=settings.systemd_cgroup,
    )
    found += _planned(request)
    if host:
        found += host_bundle.check(request, with_bundle=bundle != "-")
        found += host_checks.check(request)
    once: dict[tuple[str, str], Finding] = {}
    for one in found:
        once.setdefault((one.pointer, one.message), one)
    return list(once.values())


def _planned(request: Request) -> list[Finding]:
    """Return the errors and warnings of each feature's planner; one that fails keeps the others from nothing."""
    found = []
    for planner in (arrange, *(planner for _, planner in registry.FEATURES)):
        try:
            made = planner(request)
            if planner is not arrange:
                list(made)  # type: ignore[call-overload]
        except PyruntimeError as error:
            found.append(of_error(error, "plan"))
    for text in request.warnings:
        place, _, message = text.removeprefix("config.json: ").partition(": ")
        pointer, message = (place, message) if place.startswith("/") else ("", text)
        found.append(Finding("warning", pointer, message, rule="plan"))
    return found

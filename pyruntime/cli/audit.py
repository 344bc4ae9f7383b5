"""audit: is a running container what its config.json says? Of ours by id, of any runtime's by pid and bundle."""

from __future__ import annotations

import posix

from pyruntime.audit import checks, report
from pyruntime.audit.comparison import DRIFTED
from pyruntime.audit.view import View
from pyruntime.cgroupfs import layout
from pyruntime.cli.flags import Flag, number
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import StateError, UsageError
from pyruntime.plan.request import Request
from pyruntime.spec import check, load
from pyruntime.state import store
from pyruntime.state.status import open_init, status_of
from pyruntime.util import colour
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.spec.sections import Config

USAGE = "ID, or --pid PID --bundle DIR"
FLAGS = (
    Flag("pid", "the container's init, as this host numbers it", value="PID"),
    Flag("bundle", "directory that holds its config.json", short="b", value="DIR"),
    Flag("format", "output format", short="f", value="table|json", default="table"),
    Flag("drift", "show only differences"),
)

DRIFT = 2  # the exit status when something has drifted; 1 is an error, as of every command


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Look, and print: 0 when nothing has drifted, 2 when something has."""
    if values["format"] not in ("table", "json"):
        raise UsageError(f"--format: {values['format']!r}", hint="use table or json")
    if bool(words) == bool(values["pid"]) or len(words) > 1 or bool(values["bundle"]) != bool(values["pid"]):
        raise UsageError("audit takes an id, or --pid and --bundle", hint="see: pyruntime audit --help")
    found = layout.find()
    if words:
        record = store.load(settings.root, ContainerId(words[0]))
        pidfd = open_init(record)
        if pidfd < 0:
            raise StateError(f"container not running: {record.id} is {status_of(record)}")
        try:
            view = View(record.pid, found)
        finally:
            # The view holds the process itself by now, and checks whether it is alive.
            posix.close(pidfd)
        name, bundle, file = str(record.id), record.bundle, record.path(store.CONFIG)
        systemd = record.cgroup_manager == "systemd"
    else:
        bundle = values["bundle"]
        if not bundle.startswith("/"):
            bundle = f"{posix.getcwd()}/{bundle}"
        name, file = bundle, f"{bundle}/config.json"
        view = View(number(values["pid"], "pid"), found)
        systemd = False
    try:
        config = load.load_object(file)
        check.require(config)
        systemd = systemd or _is_unit(config)
        request = Request(
            config,
            id=ContainerId(name if words else "ID"),
            bundle=bundle.rstrip("/") or "/",
            layout=found,
            rootless=settings.rootless,
            systemd_cgroup=systemd,
        )
        findings = checks.audit(view, request)
    finally:
        view.close()
    drifts = [one for one in findings if one.verdict == DRIFTED]
    about = {"name": name, "pid": view.pid, "bundle": bundle}
    shown = drifts if values["drift"] else findings
    if values["format"] == "json":
        text = report.as_json(shown, report.count(findings), about)
    else:
        text = report.as_table(shown, report.count(findings), about, colour.of(1))
    write_output(text)
    return DRIFT if drifts else 0


def _is_unit(config: Config) -> bool:
    """Return whether cgroupsPath is slice:prefix:name, as engines write it for --systemd-cgroup."""
    path = (config.get("linux") or {}).get("cgroupsPath") or ""
    return path.count(":") == 2 and not path.startswith("/")

"""doctor: can this host run containers: what is there, what is missing, what follows, the hint."""

from __future__ import annotations

from pyruntime.cgroupfs import layout
from pyruntime.cli.findings_text import COLOURS
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.diagnose import doctor
from pyruntime.errors import UsageError, printable
from pyruntime.util import colour, fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.util.colour import Painter

USAGE = ""
FLAGS = (Flag("format", "output format", short="f", value="table|json", default="table"),)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print what was found: 0 when containers can run here, perhaps with losses; 1 when none can."""
    if words or values["format"] not in ("table", "json"):
        raise UsageError("doctor takes --format table or json, and nothing else", hint="see: pyruntime doctor --help")
    try:
        root, problem = settings.root, ""
    except UsageError as error:  # no XDG_RUNTIME_DIR
        root, problem = "", error.message
    checks = list(doctor.examine(layout.find(), root, settings.rootless, no_root=problem))
    able = doctor.can_run(checks)
    if values["format"] == "json":
        answer = {"able": able, "rootless": settings.rootless, "checks": [one.to_json() for one in checks]}
        text = fastjson.dumps(answer, indent=2) + "\n"
    else:
        text = _table(checks, able, colour.of(1))
    write_output(text)
    return 0 if able else 1


def _table(checks: list[doctor.Check], able: bool, paint: Painter) -> str:
    width = max(len(one.subject) for one in checks)
    lines = []
    for one in checks:
        lines.append(
            f"{paint(one.status.ljust(7), COLOURS[one.status], 'bold')}  {one.subject.ljust(width)}  "
            f"{printable(one.found)}"
        )
        for label, text in (("so", one.follows), ("hint", one.hint)):
            if text:
                lines.append(f"{'':{width + 11}}{paint(label, 'dim')}: {printable(text)}")
    lacks = sum(one.status == "warning" for one in checks)
    if not able:
        verdict = paint("this host cannot run containers as it is", "red", "bold")
    elif lacks:
        verdict = f"this host can run containers, {lacks} warning{'s' * (lacks > 1)}"
    else:
        verdict = paint("this host can run containers", "green")
    return "\n".join([*lines, "", verdict]) + "\n"

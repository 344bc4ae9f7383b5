"""snapshot: make, remove or describe the snapshot from which the launcher starts every command."""

from __future__ import annotations

import sys

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.boot.snapshot.make import Place
    from pyruntime.cli.flags import Values

USAGE = "make|remove|status"
FLAGS = (
    Flag("again", "make it even if it is up to date"),
    Flag("no-practice", "do not run containers to see which objects they use"),
    Flag("shared", "make it readable for all users, so that they start from it"),
    Flag("format", "format of the status; cyclonedx is a bill of materials", short="f", value="table|json|cyclonedx"),
)
ACTIONS = ("make", "remove", "status")


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Do it: 0 when the snapshot is as asked for, and for status when it is in use."""
    if len(words) != 1 or words[0] not in ACTIONS:
        raise UsageError("snapshot: missing or unknown action", hint="give make, remove or status")
    action = words[0]
    for flag, owner in (("again", "make"), ("no-practice", "make"), ("shared", "make"), ("format", "status")):
        if values[flag] and action != owner:
            raise UsageError(f"--{flag} is not a flag of snapshot {action}", hint=f"it is one of snapshot {owner}")
    if values["format"] not in ("", "table", "json", "cyclonedx"):
        raise UsageError(f"invalid format option: {values['format']!r}", hint="use table, json or cyclonedx")
    from pyruntime.boot.snapshot import TURNED_OFF, inspection, make

    place = _place()
    if action == "status":
        found = inspection.examine(place)
        forms = {"json": inspection.to_json, "cyclonedx": inspection.bill_of_materials}
        text = forms.get(values["format"], inspection.table)(found)
        write_output(text)
        return 0 if found.state == "fresh" else 1
    if action == "remove":
        make.remove(place)
        return 0
    if inspection.is_turned_off():
        print(f"note: no snapshot is made: it is turned off by {TURNED_OFF}", file=sys.stderr)
        return 0
    make.make(place, practice=not values["no-practice"], shared=values["shared"], again=values["again"])
    return 0


def _place() -> Place:
    """Return where this very pyruntime is, as the launcher passed it to the interpreter. Raises PyruntimeError."""
    import sysconfig
    from pathlib import Path

    from pyruntime import version
    from pyruntime.boot.snapshot.make import Place

    archive = next((getattr(one, "path", "") for one in sys.meta_path if hasattr(one, "load_group")), "")
    if not archive:
        raise PyruntimeError("cannot find the archive of this pyruntime", hint="run the installed one, or make build")
    library = Path(version.__file__).parents[1]
    # What the launcher appended to the path of the standard library.
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(library)}
    ends = (".zip", "/lib-dynload")
    site = [folder for folder in sys.path if folder not in standard and not folder.endswith(ends)]
    return Place(Path(sys.executable), Path(archive), library, ":".join(site))

"""learn: run a container, watched, and write the least privileges that it needs."""

from __future__ import annotations

from pyruntime.cli import create
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import one_id
from pyruntime.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID, or --merge DIR..."
FLAGS = (
    *(flag for flag in create.FLAGS if flag.name in ("bundle", "config", "pid-file", "no-pivot")),
    Flag("for", "end the container by SIGTERM after this time (60, 60s, 5m)", value="TIME"),
    Flag("output", "write the results into a new directory (default: ID.learnt)", short="o", value="DIR"),
    Flag("merge", "merge the results of several runs of one config.json into one"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Run the container, and write what was learnt: the exit status of its process."""
    from pyruntime.commands.create import CreateOptions
    from pyruntime.learn import results, session, summary

    if values["merge"]:
        if len(words) < 2 or not values["output"]:
            raise UsageError("learn --merge takes two directories or more, and --output", hint="see: learn --help")
        results.merge(words, values["output"])
        summary.show(values["output"])
        return 0
    id = one_id(words, "learn")
    options = CreateOptions(
        values["bundle"],
        config=values["config"],
        pid_file=values["pid-file"],
        pivot=not values["no-pivot"],
        detach=False,
    )
    output = values["output"] or f"{id}.learnt"
    status = session.learn(settings, id, options, output=output, seconds=seconds(values["for"]))
    summary.show(output)
    return status


def seconds(text: str) -> float:
    """Return a time as 60, 60s, 5m or 1h. Raises UsageError."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    number = text[:-1] if unit else text
    if text and not number.isdigit():
        raise UsageError(f"--for: invalid time {text!r}", hint="use 60, 60s, 5m or 1h")
    return float(number or 0) * (unit or 1)

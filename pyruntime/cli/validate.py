"""validate: everything that is wrong with a config.json, at once, without root."""

from __future__ import annotations

import posix

from pyruntime import fastjson
from pyruntime.cgroups import layout
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context
from pyruntime.errors import ConfigError, PyruntimeError, UsageError
from pyruntime.plan import build
from pyruntime.plan.request import Request
from pyruntime.spec import check, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "[BUNDLE|-]"
FLAGS = (Flag("format", "form of the findings", short="f", value="table|json|github", default="table"),)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print the findings: 0 when there is no error among them, 1 when there is."""
    if len(words) > 1 or values["format"] not in ("table", "json", "github"):
        raise UsageError(
            "validate takes a bundle or -, and --format table, json or github",
            mend="see: pyruntime validate --help",
        )
    bundle = words[0] if words else "."
    try:
        config = _from_stdin() if bundle == "-" else load.load_config(bundle)
        found = findings(config, bundle, context.rootless)
    except ConfigError as error:  # no JSON at all
        found = [_finding("error", "", error)]
    posix.write(1, _shown(found, values["format"]).encode("utf-8", "surrogateescape"))
    return 1 if any(finding["severity"] == "error" for finding in found) else 0


def _from_stdin() -> dict[str, Any]:
    data = b""
    while chunk := posix.read(0, 1 << 16):
        data += chunk
    return load.parse_object(data, "standard input")


def findings(config: dict[str, Any], bundle: str, rootless: bool) -> list[dict[str, str]]:
    """What the schema, the rules and the plan have to say: severity, pointer, message, why, mend."""
    problems = check.check(config)
    found = [
        {
            "severity": "warning" if problem.warning else "error",
            "pointer": problem.pointer,
            "message": problem.message,
            "why": problem.why or "",
            "mend": problem.mend or "",
        }
        for problem in problems
    ]
    if any(not problem.warning for problem in problems):
        return found  # planning reads a config that fits its schema
    request = Request(config, id="ID", bundle=bundle, layout=layout.find(), rootless=rootless)
    try:
        build.build(request)
    except PyruntimeError as error:
        found.append(_finding("error", error.pointer or "", error))
    for text in request.warnings:
        place, _, message = text.removeprefix("config.json: ").partition(": ")
        pointer, message = (place, message) if place.startswith("/") else ("", text)
        found.append({"severity": "warning", "pointer": pointer, "message": message, "why": "", "mend": ""})
    return found


def _finding(severity: str, pointer: str, error: PyruntimeError) -> dict[str, str]:
    return {
        "severity": severity,
        "pointer": pointer,
        "message": error.message,
        "why": error.why or "",
        "mend": error.mend or "",
    }


def _shown(found: list[dict[str, str]], format: str) -> str:
    if format == "json":
        return fastjson.dumps(found, indent=2) + "\n"
    lines = []
    for one in found:
        text = ": ".join(part for part in (one["pointer"], one["message"], one["why"]) if part)
        if one["mend"]:
            text += f"; {one['mend']}"
        if format == "github":
            escaped = text.replace("%", "%25").replace("\n", "%0A")
            lines.append(f"::{one['severity']} file=config.json::{escaped}")
        else:
            lines.append(f"{one['severity'].ljust(8)} {text}")
    if not found and format == "table":
        lines.append("config.json is valid")
    return "".join(line + "\n" for line in lines)

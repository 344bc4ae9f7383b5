"""report.html: what was granted, used and proposed, as one page that needs nothing from elsewhere."""

from __future__ import annotations

from html import escape

from pyruntime.learn import profile
from pyruntime.util import fastjson
from pyruntime.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyruntime.learn.profile import Document

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5d6b7e; --line: #dde3ea; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b212a; --ink: #e4e9f0; --soft: #98a6b8;
  --line: #2c3541; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
table { border-collapse: collapse; width: 100%; background: var(--card); }
th, td { border: 1px solid var(--line); padding: .4rem .7rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; } code { font-size: .88em; }
footer { color: var(--soft); margin-top: 2rem; }
"""


def page(report: Document, before: Document, after: Document) -> str:
    """Return the page of a report: before and after are the config that was run and the learnt one."""
    given = (before.get("linux") or {}).get("seccomp")
    calls, peaks = report["syscalls"], report["peaks"]
    granted = profile.allowed(given)
    used = report["capabilities"]["used"]
    limits = [(one.get("linux") or {}).get("resources") or {} for one in (before, after)]
    memory, pids = ([(one.get(name) or {}).get("limit", "none") for one in limits] for name in ("memory", "pids"))
    rows = [
        (
            "system calls",
            "all" if granted is None else str(len(granted)),
            " ".join(sorted({*calls["seen"], *calls["compat"]})),
            f"{len(profile.allowed(after['linux']['seccomp']) or ())} allowed, with the runtime's own",
        ),
        (
            "capabilities",
            " ".join(report["capabilities"]["granted"]) or "none",
            "not seen" if used is None else " ".join(used) or "none",
            " ".join(_capabilities(after)) or "none",
        ),
        (
            "root filesystem",
            _root(before),
            " ".join(report["paths"]["root_directories"]) or "not written to",
            _root(after),
        ),
        ("memory limit", memory[0], peaks["memory"], memory[1]),
        ("pids limit", pids[0], peaks["pids"], pids[1]),
        ("CPUs", "", peaks["cpus"], ""),
        ("devices", "", " ".join(report["devices"]) or "none", ""),
        ("sysctls", "", " ".join(report["sysctls"]["read"] + report["sysctls"]["written"]) or "none", ""),
    ]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>pyruntime learn</title>',
        f"<style>{STYLE}</style></head><body><main><h1>What the container needs</h1>",
        _table(("", "granted", "used", "proposed"), rows),
        "<h2>Changes of config.json</h2>",
        _table(
            ("field", "before", "after", "reason"),
            [
                (one["pointer"], fastjson.dumps(one["from"]), fastjson.dumps(one["to"]), one["reason"])
                for one in report["changes"]
            ],
        ),
    ]
    for title, key in (("Left to you", "advice"), ("Not seen", "not_seen")):
        if report[key]:
            parts.append(f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in report[key])}</ul>")
    parts.append(f"<footer>pyruntime {VERSION}</footer></main></body></html>\n")
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = [f"<tr>{''.join(f'<td><code>{escape(str(value))}</code></td>' for value in row)}</tr>" for row in rows]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _capabilities(config: Document) -> list[str]:
    sets = (config.get("process") or {}).get("capabilities") or {}
    return sorted({name for names in sets.values() for name in names})


def _root(config: Document) -> str:
    return "read-only" if (config.get("root") or {}).get("readonly") else "can be written to"

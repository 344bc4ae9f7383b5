"""explain --format html: the plan as one page, which needs nothing from anywhere else.

Two lanes, the parent's and init's, with time going down: what stands lower happens later, and only one of the two
is at work at a time.
"""

from __future__ import annotations

from html import escape

from pyruntime.util import fastjson
from pyruntime.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.step import Step

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5d6b7e; --line: #dde3ea;
  --parent: #2563a8; --init: #1f7a4d; --warn: #9a5b00; --chip: #eef2f7; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b212a; --ink: #e4e9f0; --soft: #98a6b8;
  --line: #2c3541; --parent: #79b0ec; --init: #6fcf9f; --warn: #e6b25c; --chip: #262e39; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h1 code { font-size: 1.4rem; }
p.lead { color: var(--soft); margin: 0 0 1.5rem; max-width: 46rem; }
code, .pointer, summary + pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: .86em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0 0 1.5rem;
  padding: 1rem 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.chip { display: inline-block; background: var(--chip); border-radius: 6px; padding: 0 .5em; margin: 0 .3em .2em 0; }
.chip.new { color: var(--init); } .chip.joined { color: var(--parent); } .chip.host { color: var(--soft); }
ul.warnings { margin: 0 0 1.5rem; padding: .8rem 1.25rem .8rem 2.25rem; border: 1px solid var(--warn);
  border-radius: 10px; color: var(--warn); }
.lanes { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem 2.5rem; position: relative; align-items: start; }
.lanes::before { content: ""; position: absolute; left: 50%; top: 3rem; bottom: 0;
  border-left: 2px dashed var(--line); }
.lane { font-weight: 600; letter-spacing: .02em; } .lane small { display: block; font-weight: 400; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-top: 3px solid; border-radius: 10px;
  padding: .8rem 1.1rem 1rem; min-width: 0; }
.parent { grid-column: 1; } .init { grid-column: 2; }
section.parent { border-top-color: var(--parent); } section.init { border-top-color: var(--init); }
.lane.parent { color: var(--parent); } .lane.init { color: var(--init); }
h2 { font-size: 1rem; margin: 0 0 .1rem; } h2 + p { margin: 0 0 .6rem; color: var(--soft); font-size: .9em; }
ol { list-style: none; margin: 0; padding: 0; }
li { padding: .35rem 0 .35rem 2.4rem; border-top: 1px solid var(--line); position: relative; overflow-wrap: anywhere; }
li:first-child { border-top: 0; }
li .number { position: absolute; left: 0; color: var(--soft); font-variant-numeric: tabular-nums; }
.pointer { color: var(--soft); display: block; }
details { display: inline; } summary { display: inline; cursor: pointer; color: var(--soft); list-style: none; }
summary::before { content: "…"; background: var(--chip); border-radius: 5px; padding: 0 .45em; }
pre { white-space: pre-wrap; background: var(--chip); border-radius: 8px; padding: .6rem .8rem; margin: .4rem 0 .2rem; }
footer { color: var(--soft); margin-top: 2rem; font-size: .9em; }
@media (max-width: 760px) { .lanes { grid-template-columns: 1fr; } .lanes::before { display: none; }
  .lanes > .parent, .lanes > .init { grid-column: 1; grid-row: auto !important; } .init { margin-left: 1.25rem; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""
# Longer descriptions are cut; all of it is in the arguments.
_LONGEST = 220


def page(
    facts: list[tuple[str, str]],
    namespaces: list[tuple[str, str, str]],
    warnings: list[str],
    phases: list[tuple[str, str, str, list[Step]]],
) -> str:
    """Return the page as text.

    facts:      (label, value) for the head, as the config has them.
    namespaces: (kind, "new", "joined" or "host", path).
    phases:     (name, who, when, steps), in order; who begins with "parent" or is "init"."""
    title = next((value for label, value in facts if label == "program"), "a container")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>pyruntime explain: {escape(title)}</title>",
        f"<style>{STYLE}</style></head><body><main>",
        f"<h1>How <code>{escape(title)}</code> would start</h1>",
        '<p class="lead">Every step that pyruntime would take for this bundle, in order, with the field of config.json '
        "that it comes from. Nothing of it has been done.</p>",
        "<dl>",
        *(f"<dt>{escape(label)}</dt><dd><code>{escape(value)}</code></dd>" for label, value in facts),
        f"<dt>namespaces of init</dt><dd>{''.join(_chips(namespaces))}</dd>",
        "</dl>",
    ]
    if warnings:
        parts += ['<ul class="warnings">', *(f"<li>{escape(text)}</li>" for text in warnings), "</ul>"]
    parts += [
        '<div class="lanes">',
        '<div class="lane parent">parent<small>the runtime: in the namespaces of its caller</small></div>',
        '<div class="lane init">init<small>the process that becomes the container</small></div>',
        *_sections(phases),
        "</div>",
        f"<footer>{sum(len(steps) for *_, steps in phases)} steps · pyruntime {VERSION}</footer>",
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _chips(namespaces: list[tuple[str, str, str]]) -> Iterator[str]:
    for kind, way, path in namespaces:
        words = {"new": "new", "joined": f"joined: {path}", "host": "the caller's"}[way]
        yield f'<span class="chip {way}"><b>{escape(kind)}</b> {escape(words)}</span>'


def _sections(phases: list[tuple[str, str, str, list[Step]]]) -> Iterator[str]:
    number, row = 0, 1
    for name, who, when, steps in phases:
        if not steps:
            continue
        row += 1  # a row of its own: nothing beside it happens at the same time
        lane = "init" if who == "init" else "parent"
        yield f'<section class="{lane}" id="{escape(name)}" style="grid-row: {row}">'
        yield f"<h2>{escape(name)}</h2><p>{escape(_sentence(who, when))}</p><ol>"
        for step in steps:
            number += 1
            yield _item(number, step)
        yield "</ol></section>"


def _sentence(who: str, when: str) -> str:
    return when if who in ("init", "parent") else f"{who}: {when}"


def _item(number: int, step: Step) -> str:
    words = step.describe()
    if len(words) > _LONGEST:
        words = words[:_LONGEST] + "…"
    pointer = f'<span class="pointer">{escape(step.pointer)}</span>' if step.pointer else ""
    more = ""
    if step.args:
        arguments = escape(_arguments(step.args))
        more = f' <details><summary title="the call"></summary><pre>{escape(step.name)}\n{arguments}</pre></details>'
    shown = escape(words).replace(",", ",<wbr>")  # lists of paths have no spaces
    return f'<li><span class="number">{number}</span>{shown}{more}{pointer}</li>'


def _arguments(args: dict[str, object]) -> str:
    """Return a line an argument, those that say nothing left out."""
    return "\n".join(f"{name}: {fastjson.dumps(value)}" for name, value in args.items() if value not in ("", [], None))

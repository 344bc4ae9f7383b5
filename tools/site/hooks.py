"""What mkdocs does besides: pages made from the tables of the command line and from CHANGELOG.md, links, a full menu.

https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).resolve().parents[2]
# Documents beside docs/ that are pages of the site, too.
ABOVE = {"CHANGELOG.md": "changes.md", "SECURITY.md": "promises.md"}
sys.path.insert(0, str(CHECKOUT))

from pyruntime.cli import main  # noqa: E402
from pyruntime.cli.completions import Command, commands  # noqa: E402
from pyruntime.cli.flags import HELP, Flag  # noqa: E402


def on_config(config: Any) -> Any:
    """Pages that the menu does not name come last, so that a new one is never lost."""
    named = set(re.findall(r"[\w-]+\.md", str(config.nav)))
    others = sorted(path.name for path in (CHECKOUT / "docs").glob("*.md") if path.name not in named)
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    made = {
        "commands.md": commands_page(),
        **{page: (CHECKOUT / name).read_text() for name, page in ABOVE.items()},
        "site.css": (Path(__file__).parent / "site.css").read_text(),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return names of other pages become links; in code they stay as they are."""
    there = {file.src_uri for file in files}

    for name, page_of_it in ABOVE.items():
        markdown = markdown.replace(f"](../{name})", f"]({page_of_it})")
    if page.file.src_uri in ABOVE.values():
        markdown = markdown.replace("](docs/", "](")

    def link(match: re.Match[str]) -> str:
        name = f"{match[1]}.md"
        return f"[{match[1]}]({name})" if name in there and name != page.file.src_uri else match[0]

    lines = []
    code = False
    for line in markdown.split("\n"):
        if line.startswith("```"):
            code = not code
        if not code and not line.startswith("    "):
            line = re.sub(r"\[([^]]+)\]\(\.\./[\w./-]+\)", r"\1", line)  # of files of the repository the name is enough
            line = re.sub(r"(?<![`\w/\[])(?<!\]\()docs/([\w-]+)\.md(?![`\w\]])", link, line)
        lines.append(line)
    return "\n".join(lines)


def commands_page() -> str:
    """Return the page of all commands, from the tables that parse the command line."""
    parts = [
        "# All commands",
        "",
        "    pyruntime [flags] COMMAND [flags] [ID] …",
        "",
        "A flag is written with two dashes or with one; its value is the next word, or follows a `=`.",
        "",
        "## Flags before the command",
        "",
        *table(main.GLOBAL),
    ]
    for command in commands():
        parts += section(command)
    return "\n".join(parts) + "\n"


def section(command: Command) -> list[str]:
    """Return one command: its line, its usage, its flags."""
    flags = [flag for flag in command.flags if flag is not HELP]
    usage = f"pyruntime {command.name}{' [flags]' if flags else ''} {command.usage}".rstrip()
    help = command.help[:1].upper() + command.help[1:]
    own = f" See docs/{command.name}.md." if (CHECKOUT / f"docs/{command.name}.md").exists() else ""
    return ["", f"## {command.name}", "", f"{help}.{own}", "", f"    {usage}", "", *(table(flags) if flags else [])]


def table(flags: tuple[Flag, ...] | list[Flag]) -> list[str]:
    """Return a table of flags."""
    lines = ["| flag | |", "|---|---|"]
    for flag in flags:
        short = f"`-{flag.short}`, " if flag.short else ""
        value = f" {flag.value}" if flag.value else ""
        help = flag.help.replace("|", "\\|")  # in code it needs no backslash
        default = f" (default: `{flag.default}`)" if flag.value and flag.default and not flag.many else ""
        lines.append(f"| {short}`--{flag.name}{value}` | {help}{default} |")
    return lines

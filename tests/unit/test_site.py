"""The site of docs/: every page is in it, every link leads somewhere, nothing is fetched from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyruntime.cli import main
from pyruntime.plan.step import PHASES

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="`make docs` installs mkdocs")
    path = tmp_path_factory.mktemp("site")
    flags = ["--strict", "-q", "-f", "tools/site/mkdocs.yml", "-d", str(path)]
    command = [sys.executable, "-m", "mkdocs", "build", *flags]
    result = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert result.returncode == 0, result.stderr
    return path


def test_the_menu_names_no_page_twice_and_its_hooks_exist() -> None:
    text = (CHECKOUT / "tools/site/mkdocs.yml").read_text()
    pages = re.findall(r"^ *- ([\w-]+\.md)$", text, re.M)
    assert pages and len(pages) == len(set(pages)), sorted({page for page in pages if pages.count(page) > 1})
    hooks = re.search(r"^hooks: \[(.*)\]$", text, re.M)
    assert hooks
    for name in hooks[1].split(", "):
        assert (CHECKOUT / "tools/site" / name).is_file(), name


def test_the_glossary_has_every_phase() -> None:
    [line] = [line for line in (CHECKOUT / "docs/glossary.md").read_text().splitlines() if line.startswith("| phase |")]
    assert re.findall(r"`(\w+)`", line) == list(PHASES)


def test_every_page_is_there_and_in_the_menu(site: Path) -> None:
    menu = (site / "index.html").read_text()
    for page in (*(CHECKOUT / "docs").glob("*.md"), Path("commands.md"), Path("changes.md")):
        assert (site / f"{page.stem}.html").exists()
        assert f'href="{page.stem}.html"' in menu or page.stem == "index", page.stem


def test_every_command_is_described(site: Path) -> None:
    text = (site / "commands.html").read_text()
    for name in main.COMMANDS:
        assert f'<h2 id="{name}">' in text


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        assert not re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//', page.read_text()), page.name


def test_no_link_leads_out_of_the_site(site: Path) -> None:
    for page in set(site.glob("*.html")) - {site / "404.html"}:
        for target in re.findall(r'<a [^>]*href="([^"#:]+)(?:#[^"]*)?"', page.read_text()):
            assert (site / target).exists(), f"{page.name}: {target}"


def test_names_of_pages_are_links(site: Path) -> None:
    assert '(<a href="handshake.html">handshake</a>)' in (site / "errors.html").read_text()

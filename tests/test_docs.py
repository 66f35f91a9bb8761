"""Commands in the documents exist, with these options, and pictures are there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from vla_mbpo.cli import COMMANDS, _Parser

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/operating.md")
COMMAND = re.compile(r"(?:^|`)(?:\.venv/bin/)?vla-mbpo (?!COMMAND)([^`\n]+)", re.MULTILINE)


def commands():
    """(page, words) of each one; inline ones of the operating guide only, which are whole there."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for match in COMMAND.finditer(text):
            if not match[0].startswith("`") or page == "docs/operating.md":
                yield page, match[1]


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_parses(page, line):
    chosen, *words = shlex.split(line, comments=True)
    parser = _Parser(prog=chosen)
    importlib.import_module(COMMANDS[chosen][0]).add_arguments(parser)
    assert parser.parse_args(words) is not None  # an unknown option would have ended it


def test_there_are_commands_in_every_page():
    assert {page for page, _ in commands()} == set(PAGES) and len(list(commands())) > 25


@pytest.mark.parametrize("page", [*PAGES, "docs/architecture.md", "docs/safety.md"])
def test_links_and_pictures_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)\s#]*)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_headings_that_are_linked_to_exist():
    for page in (*PAGES, "docs/architecture.md", "docs/safety.md"):
        for target, heading in re.findall(r"\]\((?!https?:)([^)\s#]*)#([^)]*)\)", (ROOT / page).read_text()):
            other = (ROOT / page).parent / target if target else ROOT / page
            titles = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in slugs, f"{page}: {target}#{heading}"

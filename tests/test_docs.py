"""Commands in the documents exist, with these options, and pictures are there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from vla_mbpo.cli import COMMANDS, _Parser

ROOT = Path(__file__).parents[1]
WHOLE = tuple(f"docs/{name}.md" for name in ("operating", "first_power_on", "calibration"))  # also within a sentence
PAGES = ("README.md", *WHOLE, *(f"docs/{name}.md" for name in ("robots", "models")))
REST = ("install", "foreign_policies", "cameras", "architecture", "safety", "benchmark", "compile", "scaling")
LINKED = (*PAGES, *(f"docs/{name}.md" for name in REST))
COMMAND = re.compile(r"(?:^|`)(?:\.venv/bin/)?vla-mbpo (?!COMMAND)([^`\n]+)", re.MULTILINE)


def commands():
    """(page, words) of each one; those within a sentence where they are whole."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for match in COMMAND.finditer(text):
            if not match[0].startswith("`") or page in WHOLE:
                yield page, match[1]


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_parses(page, line):
    chosen, *words = shlex.split(line, comments=True)
    parser = _Parser(prog=chosen)
    importlib.import_module(COMMANDS[chosen][0]).add_arguments(parser)
    assert parser.parse_args(words) is not None  # an unknown option would have ended it


def test_there_are_commands_in_every_page():
    found = [page for page, _ in commands()]
    assert set(PAGES) == {*found} and len(found) > 55


@pytest.mark.parametrize("page", LINKED)
def test_links_and_pictures_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)\s#]*)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_headings_that_are_linked_to_exist():
    for page in LINKED:
        for target, heading in re.findall(r"\]\((?!https?:)([^)\s#]*)#([^)]*)\)", (ROOT / page).read_text()):
            other = (ROOT / page).parent / target if target else ROOT / page
            titles = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in slugs, f"{page}: {target}#{heading}"

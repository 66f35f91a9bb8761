"""A reader of pages, and messages of an attempt that is made up."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace as Said

VOID = {"meta", "img", "br", "link", "input"}
SAFE, RISKY, UNSAFE, UNKNOWN = 1, 2, 3, 0
S = 1_000_000_000  # ns
BEGIN = 100 * S


class Page(HTMLParser):
    """A page's tags with their attributes, its cells by row, and whether its tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.tags, self.rows, self.wrong = text, [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += [f"{tag} is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag in self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def row(self, first):
        """Cells of the row that begins so."""
        return next(row[1:] for row in self.rows if row[0] == first)


def opened(text):
    """The page, which keeps all rules: well-formed, nothing from elsewhere, nameable by who cannot see it."""
    page = Page(text)
    assert not page.wrong
    assert not re.search(r"<script|<link|<iframe|@import|url\((?!#)|\bsrcset|\son\w+=", text)
    assert not re.search(r"(?:https?:)?//\w", re.sub(r'base64,[^"]*', "", text))
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.all("img"))
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1 and len(page.all("title")) == 1
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert all(drawing.get("aria-label") for drawing in page.all("svg") if drawing.get("role") == "img")
    return page


def stamp(seconds):
    ns = round(BEGIN + seconds * S)
    return Said(sec=ns // S, nanosec=ns % S)


def header(seconds):
    return Said(stamp=stamp(seconds))


def chunk_set(number, at, candidates=3):
    """Published 40 ms after its observation ``at`` [s]."""
    chunks = [Said(candidate=k) for k in range(candidates)]
    return Said(header=header(at + 0.04), chunk_set_id=number, observation_stamp=stamp(at), chunks=chunks)


def judged(candidate, verdict, cost, success=0.5, reasons=()):
    return Said(
        candidate=candidate, verdict=verdict, cost_probability=cost, success_probability=success, reasons=reasons
    )


def verdict(number, at, *candidates, version="world@1"):
    return Said(header=header(at), chunk_set_id=number, candidates=candidates, model_version=version)


def decision(number, candidate, check="", text="", imagined=None):
    reasons = [Said(check=check, text=text)] if check else []
    imagined = imagined or judged(0, UNKNOWN, 0.0)
    return Said(chunk_set_id=number, candidate=candidate, accepted=not check, reasons=reasons, imagination=imagined)


def labels(**changed):
    return {
        "kind": "attempt", "state": "complete", "reasons": [], "instruction": "press the button",
        "outcome": "succeeded", "message": "well", "cost_events": [], "policy_versions": ["few@1"], "releases": [],
        "interventions": [], "chunk_sets": 2, "decisions": {"accepted": 1, "rejected": 0}, "vetoes": {}, "topics": {},
        "rows": {"executed": 10, "dropped_late": 1, "executed_late": 0}, "begin_ns": BEGIN - S, "end_ns": BEGIN + 5 * S,
        "duration_s": 6.0, "bag": "x.mcap",
    } | changed  # fmt: skip

"""Building pages and plots."""

import math
import re

import numpy as np
import pytest
from report_samples import opened

from vla_mbpo.reports.page import Html, details, figure, heading, page, paragraph, picture, row, table
from vla_mbpo.reports.plot import HEIGHT, WIDTH, Plot, Series

EVIL = "<b>&\"'</b>"


def paths(svg):
    """Points of each line."""
    found = re.findall(r"<path d='([^']*)' fill='none' stroke='var", svg)
    return [re.findall(r"([ML])([\d.-]+) ([\d.-]+)", path) for path in found if "H" not in path]


def test_a_page_of_everything_keeps_the_rules():
    pixels = np.zeros((4, 6, 3), np.uint8)
    shown = figure(picture(pixels, EVIL), EVIL)
    plot = Plot(EVIL, EVIL, EVIL, lines=[Series(EVIL, [(0, 1)])] * 2, marks=[(0, EVIL)], spans=[(0, 1)])
    made = opened(
        page(EVIL, heading(EVIL), paragraph(EVIL), table((EVIL, EVIL), [(EVIL, EVIL)], EVIL), row(shown, plot.figure()),
             details(EVIL, plot.figure()))
    )  # fmt: skip
    assert made.all("b") == [] and made.rows == [[EVIL, EVIL], [EVIL, EVIL]]


def test_only_what_is_said_to_be_html_is_not_escaped():
    made = opened(page("t", table(("a", "b"), [("x", Html("<b>y</b>"))], "c")))
    assert len(made.all("b")) == 1 and made.row("x") == ["y"]


def test_a_picture_keeps_its_shape():
    (image,) = opened(page("t", picture(np.zeros((10, 20, 3), np.uint8), "dark", 200))).all("img")
    assert (image["width"], image["height"]) == ("200", "100")


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_gap(hole):
    (line,) = paths(Plot("t", "x", "y", lines=[Series("a", [(0, 1), (1, hole), (2, 3), (3, 2)])]).svg())
    assert [pen for pen, _, _ in line] == ["M", "M", "L"]


def test_a_line_goes_from_corner_to_corner_and_stays_inside():
    (line,) = paths(Plot("t", "x", "y", lines=[Series("a", [(-5, 1e3), (0, 0), (5, -1e3)])]).svg())
    (_, x0, y0), _, (_, x1, y1) = [(pen, float(x), float(y)) for pen, x, y in line]
    assert 0 < x0 < x1 < WIDTH and 0 < y0 < y1 < HEIGHT


@pytest.mark.parametrize("values", [[], [(0, 1)], [(0, 1), (1, 1)], [(0, math.nan)]])
def test_few_or_equal_values_can_be_drawn(values):
    opened(page("t", Plot("t", "x", "y", lines=[Series("a", values)]).figure()))


def test_bars_are_stacked_in_proportion():
    svg = Plot("t", "x", "n", parts=("a", "b"), bars=[(0.0, (1, 3)), (1.0, (4, 0))]).svg()
    bars = re.findall(r"y='([\d.]+)' width='[\d.]+' height='([\d.]+)' fill='url\(#part(\d)", svg)
    (y0, h0, _), (y1, h1, _), (_, h2, _) = [(float(y), float(h), part) for y, h, part in bars]
    assert [part for _, _, part in bars] == ["0", "1", "0"]
    assert h1 == pytest.approx(3 * h0, abs=0.2) and h2 == pytest.approx(h0 + h1, abs=0.2)
    assert y1 + h1 == pytest.approx(y0, abs=0.2)

"""Small plots as SVG inside a page: lines and stacked bars over one axis, in the colours of the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from vla_mbpo.reports.page import COLOURS, Html, figure

WIDTH, HEIGHT = 360, 206
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 18, 34  # px around the axes
DASHES = ("none", "6 3", "2 2", "8 3 2 3", "1 3")  # lines differ by more than their colour
WIDEST = 14.0  # px, of a bar
CLOSE = 90.0  # px; names of moments that are closer stand below each other

Column = tuple[float, Sequence[float]]


@dataclass(frozen=True)
class Series:
    """A line of points (x, y); a y that is None or not finite is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Plot:
    """What is drawn over one x axis.

    Attributes:
        title: of the figure.
        x, y: names of the axes, with units.
        lines: at most five.
        parts: names of what bars are stacked of, from below, at most five.
        bars: (x, height of each part).
        marks: moments with a name, as vertical lines.
        spans: (begin, end), shaded.
        words: what there is to see, for who cannot see it, too.
        ends: of the x axis; None: those of what is drawn.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Series] = ()
    parts: Sequence[str] = ()
    bars: Sequence[Column] = ()
    marks: Sequence[tuple[float, str]] = ()
    spans: Sequence[tuple[float, float]] = ()
    words: str = ""
    ends: tuple[float, float] | None = None

    def figure(self) -> Html:
        """The plot with title, words and legend."""
        names = self.parts or [line.name for line in self.lines]
        keys = [_key(place, bool(self.parts), name) for place, name in enumerate(names)]
        legend = f"<br>{' '.join(keys)}" if len(keys) > 1 else ""
        return figure(self.svg(), Html(f"{escape(self._said())}{legend}"), "plot")

    def svg(self) -> Html:
        """The plot alone."""
        xs = [x for line in self.lines for x, _ in line.points] + [x for x, _ in self.bars]
        ys = [y for line in self.lines for _, y in line.points if y is not None and math.isfinite(y)]
        ys += [sum(heights) for _, heights in self.bars] + ([0.0] if self.bars else [])
        axes = _Axes(*(self.ends or _range(xs)), *_range(ys))
        drawn = [_spans(axes, self.spans), axes.frame(self.x, self.y), _bars(axes, self.bars)]
        drawn += [_line(axes, line, place) for place, line in enumerate(self.lines)]
        drawn.append(_marks(axes, self.marks))
        size, said = f"0 0 {WIDTH} {HEIGHT}", escape(self._said(), quote=True)
        return Html(f'<svg viewBox="{size}" role="img" aria-label="{said}">{"".join(drawn)}</svg>')

    def _said(self) -> str:
        return f"{self.title}. {self.words}".strip() if self.words else self.title


@dataclass(frozen=True)
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_name: str, y_name: str) -> str:
        """Axes with ticks and names."""
        low, right, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, []
        for value in _ticks(self.y0, self.y1, 4):
            y = self.y(value)
            parts.append(f"<path d='M{LEFT} {y:.1f}H{right}' stroke='var(--line)' stroke-width='.5'/>")
            parts.append(f"<text x='{LEFT - 4}' y='{y + 4:.1f}' text-anchor='end'>{value:g}</text>")
        for value in _ticks(self.x0, self.x1, 5):
            at = min(self.x(value), right - 6.0)  # the last number stays inside
            parts.append(f"<text x='{at:.1f}' y='{low + 14}' text-anchor='middle'>{value:g}</text>")
        parts.append(f"<path d='M{LEFT} {TOP}V{low}H{right}' fill='none' stroke='var(--soft)'/>")
        parts.append(f"<text x='{right}' y='{HEIGHT - 5}' text-anchor='end'>{escape(x_name)}</text>")
        parts.append(f"<text x='2' y='{HEIGHT - 5}'>↑ {escape(y_name)}</text>" if y_name else "")
        return "".join(parts)


def _spans(axes: _Axes, spans: Sequence[tuple[float, float]]) -> str:
    parts = []
    for begin, end in spans:
        left, wide = axes.x(begin), max(1.0, axes.x(end) - axes.x(begin))
        where = f"x='{left:.1f}' y='{TOP}' width='{wide:.1f}' height='{HEIGHT - TOP - BOTTOM}'"
        parts.append(f"<rect {where} fill='var(--line)' fill-opacity='.6'/>")
    return "".join(parts)


def _line(axes: _Axes, line: Series, place: int) -> str:
    words, pen = [], "M"
    for x, y in line.points:
        if y is None or not math.isfinite(y):
            pen = "M"
            continue
        words.append(f"{pen}{axes.x(x):.1f} {axes.y(y):.1f}")
        pen = "L"
    return f"<path d='{''.join(words)}' {_stroke(place)}/>" if words else ""


def _stroke(place: int) -> str:
    look = f"stroke='var({COLOURS[place]})' stroke-dasharray='{DASHES[place]}'"
    return f"fill='none' {look} stroke-width='1.7' stroke-linecap='round' stroke-linejoin='round'"


def _bars(axes: _Axes, bars: Sequence[Column]) -> str:
    places = sorted(x for x, _ in bars)
    gaps = [axes.x(b) - axes.x(a) for a, b in pairwise(places) if b > a]
    wide = max(1.5, min(0.8 * min(gaps, default=WIDEST), WIDEST))
    parts = []
    for x, heights in bars:
        base = 0.0
        for place, height in enumerate(heights):
            if height > 0:
                top, tall = axes.y(base + height), axes.y(base) - axes.y(base + height)
                where = f"x='{axes.x(x) - wide / 2:.1f}' y='{top:.1f}' width='{wide:.1f}' height='{tall:.1f}'"
                parts.append(f"<rect {where} {_fill(place)}/>")
            base += height
    return "".join(parts)


def _fill(place: int) -> str:
    return f"fill='url(#part{place})' stroke='var({COLOURS[place]})' stroke-width='.6'"


def _marks(axes: _Axes, marks: Sequence[tuple[float, str]]) -> str:
    parts, last, level = [], -math.inf, 0
    for x, name in sorted(marks):
        at = axes.x(x)
        level, last = (level + 1 if at - last < CLOSE else 0), at
        parts.append(f"<path d='M{at:.1f} {TOP}V{HEIGHT - BOTTOM}' stroke='var(--text)' stroke-dasharray='3 2'/>")
        side = (at - 3, "end") if at > 0.6 * WIDTH else (at + 3, "start")
        where = f"x='{side[0]:.1f}' y='{TOP - 6 + 13 * (level % 5)}' text-anchor='{side[1]}'"
        parts.append(f"<text {where}>{escape(name)}</text>")
    return "".join(parts)


def _key(place: int, bar: bool, name: str) -> str:
    """What a part or line looks like, and its name."""
    drawn = f"<path d='M1 5H23' {_stroke(place)}/>"
    if bar:
        drawn = f"<rect x='6' y='1' width='12' height='8' {_fill(place)}/>"
    shown = f"<svg class='key' viewBox='0 0 24 10' aria-hidden='true'>{drawn}</svg>"
    return f"<span class='part'>{shown} {escape(name)}</span>"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between the two."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]

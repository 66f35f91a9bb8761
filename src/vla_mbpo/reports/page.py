"""Pages of one file: tables, figures, pictures inside, a style for light and dark; nothing is loaded from elsewhere."""

import base64
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The browser itself refuses whatever a page would load: there are no scripts, and pictures are in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1d1d1f;--soft:#55585e;--line:#c4c6ca;--band:#f2f3f5;
--yes:#dff2df;--no:#fbdcdc;--a:#0b57a4;--b:#b3400a;--c:#b3261e;--d:#7a3e9d;--e:#6b6e73}
@media(prefers-color-scheme:dark){:root{--back:#16171a;--text:#e8e9ec;--soft:#b0b3b9;--line:#4a4d53;--band:#212328;
--yes:#1d3d22;--no:#55252a;--a:#7db8f5;--b:#f3a36b;--c:#f28b82;--d:#cfa0ec;--e:#a6a9af}}
body{font:1rem/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:80rem;background:var(--back);
color:var(--text)}
h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem;margin-bottom:.3rem}
.wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
td{min-width:3rem}th,td{border:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top}
th{font-weight:600}thead th{background:var(--band)}td{font-variant-numeric:tabular-nums}
.yes{background:var(--yes)}.no{background:var(--no)}
.row{display:flex;flex-wrap:wrap;gap:.8rem;align-items:flex-start}
figure{margin:.6rem 0;max-width:100%}.row figure{margin:0;width:min(192px,46%)}
.row figure.plot{width:22rem;flex:1 1 20rem;max-width:27rem}.part{white-space:nowrap;margin-right:1rem}
figcaption{color:var(--soft);font-size:.9rem}img{max-width:100%;height:auto;image-rendering:pixelated;display:block}
svg{width:100%;height:auto;display:block}svg.key{display:inline;width:24px}svg.none{width:0;height:0;position:absolute}
svg text{fill:var(--text);font-size:11px}
summary{cursor:pointer;padding:.3rem 0}p{max-width:48rem}h1,h2,h3,p,summary,figcaption{overflow-wrap:anywhere}
"""
COLOURS = ("--a", "--b", "--c", "--d", "--e")  # of the style; parts of plots differ by pattern, too
_PATTERN = (
    "<pattern id='part{k}' width='5' height='5' patternUnits='userSpaceOnUse' patternTransform='rotate({turn})'>"
    "<rect width='5' height='5' fill='var({colour})' fill-opacity='.25'/>"
    "<path d='M0 0V5' stroke='var({colour})' stroke-width='{thick}'/></pattern>"
)
_PATTERNS = "".join(
    _PATTERN.format(k=k, colour=colour, turn=45 * k, thick=thick)
    for k, (colour, thick) in enumerate(zip(COLOURS, (0, 2, 9, 1, 4), strict=True))
)


class Html(str):
    """Text that is HTML already and is not escaped again."""


def page(title: str, *parts: str) -> str:
    """The whole page: ``title`` is also its heading; ``parts`` are of this module's other functions."""
    head = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head>"
    )
    shared = f"<svg class='none' aria-hidden='true'><defs>{_PATTERNS}</defs></svg>"
    body = [f"<body><main><h1>{escape(title)}</h1>", *parts, f"</main>{shared}</body></html>"]
    return "\n".join([head, *body]) + "\n"


def save(made: str, out: Path) -> None:
    """Write a page in one step: a reader sees the old one or the new one. OSError: neither is touched."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(made)
        partial.replace(out)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def heading(text: str, level: int = 2) -> Html:
    """A heading; the page's own is the only one of level 1."""
    return Html(f"<h{level}>{escape(text)}</h{level}>")


def paragraph(text: str) -> Html:
    """Plain words."""
    return Html(f"<p>{escape(text)}</p>")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> Html:
    """A table whose first column names the rows. Cells are escaped unless they are Html; "yes" and "no" are coloured.

    ``caption``: what it is of; also its name for who cannot see it.
    """
    top = "".join(f"<th scope='col'>{_text(cell)}</th>" if cell else "<td></td>" for cell in head)
    body = "".join(f"<tr><th scope='row'>{_text(first)}</th>{''.join(map(_cell, rest))}</tr>" for first, *rest in rows)
    named = escape(caption, quote=True)
    # It can be scrolled sideways on a phone, also with the keyboard.
    return Html(
        f'<div class="wide" tabindex="0" role="region" aria-label="{named}"><table><caption>{named}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(pixels: NDArray[np.uint8], alt: str, width: int = 192) -> Html:
    """A picture (h, w, 3) RGB as part of the page, shown ``width`` px wide; ``alt``: what is to be seen there."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90, subsampling=0)
    data = base64.b64encode(out.getvalue()).decode()
    height = round(width * pixels.shape[0] / pixels.shape[1])
    words = escape(alt, quote=True)
    return Html(f'<img src="data:image/jpeg;base64,{data}" alt="{words}" width="{width}" height="{height}">')


def figure(content: Html, caption: str, kind: str = "") -> Html:
    """A picture or plot with words below it."""
    mark = f" class='{kind}'" if kind else ""
    return Html(f"<figure{mark}>{content}<figcaption>{_text(caption)}</figcaption></figure>")


def row(*parts: str) -> Html:
    """Side by side where there is room, below each other on a phone."""
    return Html(f"<div class='row'>{''.join(parts)}</div>")


def details(summary: str, *parts: str) -> Html:
    """What is shown on demand."""
    return Html(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


def percent(share: float) -> str:
    """A share, "–" where there is no number."""
    return f"{share:.1%}" if np.isfinite(share) else "–"


def _cell(value: object) -> str:
    mark = f" class='{value}'" if value in ("yes", "no") else ""
    return f"<td{mark}>{_text(value)}</td>"


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))

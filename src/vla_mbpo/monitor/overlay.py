"""Both cameras side by side with words below them, as one picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 288  # px, of each camera
LETTER, LINE = 14, 20  # px
DARK, PALE = (34, 34, 34), (220, 220, 220)
LONGEST = 90  # characters of a line


def overlay(head: NDArray[np.uint8] | None, wrist: NDArray[np.uint8] | None, lines: Sequence[str]) -> NDArray[np.uint8]:
    """Picture (h, w, 3) RGB of the cameras' (h, w, 3) RGB and below them the lines; what is missing stays dark."""
    canvas = Image.new("RGB", (2 * SIDE, SIDE + LINE * len(lines) + 4), DARK)
    for column, array in enumerate((head, wrist)):
        if array is not None:
            image = Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            canvas.paste(image, (column * SIDE, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTER)
    for row, line in enumerate(lines):
        pen.text((6, SIDE + 2 + LINE * row), _fitting(pen, line, font), fill=PALE, font=font)
    return np.asarray(canvas)


def _fitting(pen: ImageDraw.ImageDraw, line: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """As much of the line as fits; what the font lacks becomes a question mark."""
    text = line[:LONGEST].encode("latin-1", "replace").decode("latin-1").replace("\n", " ")
    while text and pen.textlength(text, font) > 2 * SIDE - 12:
        text = text[:-1]
    return text

"""The page's pictures: a view of the scene, and beside it what the two cameras see; and a dream."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 480  # px, the scene's view; each camera gets half
ENLARGED = 2  # a dream's pixels


def compose(scene: NDArray[np.uint8] | None, head: NDArray[np.uint8] | None, wrist: NDArray[np.uint8] | None) -> bytes:
    """JPEG of a 720 x 480 picture; what is missing stays dark.

    Args:
        scene: (480, 480, 3) RGB, or None to show the head camera in its place (no simulator).
        head, wrist: camera images (h, w, 3) RGB.
    """
    canvas = Image.new("RGB", (SIDE * 3 // 2, SIDE), (34, 34, 34))
    large = scene if scene is not None else head
    for array, box in ((large, (0, 0, SIDE)), (head, (SIDE, 0, SIDE // 2)), (wrist, (SIDE, SIDE // 2, SIDE // 2))):
        if array is not None:
            x, y, side = box
            canvas.paste(Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR), (x, y))
    return _jpeg(canvas)


def enlarge(picture: NDArray[np.uint8]) -> bytes:
    """JPEG of a dream (h, w, 3) RGB, larger: above imagined head and wrist, below what was then seen."""
    height, width = picture.shape[:2]
    return _jpeg(Image.fromarray(picture).resize((width * ENLARGED, height * ENLARGED), Image.Resampling.BILINEAR))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()

"""Dreams of a run of dream RL, kept so that they can be looked at: ``vla-mbpo dream --dreams FILE``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vla_mbpo.core.errors import require

if TYPE_CHECKING:
    from torch import Tensor

    from vla_mbpo.training.dream_world import Judged, States

LABEL = 12  # px
NUMBERS = ("to_go", "cost", "success", "done")


class DreamLog:
    """Collects what branches look like and writes them into one file.

    Attributes:
        columns: of each array of the file, one entry per moment.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("head", "wrist", *NUMBERS)}

    def add(self, pictures: tuple["Tensor", ...], judged: "Judged | None" = None) -> None:
        """Pictures (B, S, S, 3) uint8 of a moment; what was said of the chunk before it, except of the first one."""
        for name, view in zip(("head", "wrist"), pictures, strict=True):
            self.columns[name].append(view.cpu().numpy())
        if judged is not None:
            for name in NUMBERS:
                value = getattr(judged, name)
                self.columns[name].append((value.mean(0) if name == "to_go" else value).float().cpu().numpy())

    def write(self, file: Path, states: "States") -> None:
        """As a .npz: pictures (B, C + 1, S, S, 3), numbers (B, C), and the instructions' words (B, L)."""
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.stack(column, 1) for name, column in self.columns.items()}
        np.savez_compressed(file, words=states.words.cpu().numpy(), row=states.row.cpu().numpy(), **arrays)


def strips(file: Path) -> Image.Image:
    """One line per dream: what was seen, and what is imagined at the end of each chunk, head view above wrist view.

    Raises:
        ConfigError: it is no file of dreams.
    """
    require(file.is_file(), "--dreams", str(file), "a file, RUN/dreams/STEP.npz of `vla-mbpo train dream-rl`")
    with np.load(file) as dreams:
        missing = sorted({"head", "wrist", *NUMBERS} - set(dreams.files))
        require(not missing, "--dreams", f"{file} without {', '.join(missing)}", "dreams of `vla-mbpo train dream-rl`")
        found = {name: dreams[name] for name in ("head", "wrist", *NUMBERS)}
    count, moments, size = found["head"].shape[:3]
    height = 2 * size + LABEL
    picture = Image.new("RGB", (size * moments, height * count), "white")
    draw = ImageDraw.Draw(picture)
    for i in range(count):
        for column in range(moments):
            x, y = column * size, i * height
            for line, view in enumerate(("head", "wrist")):
                picture.paste(Image.fromarray(found[view][i, column]), (x, y + LABEL + line * size))
            to_go, cost = (found[name][i, column - 1] for name in ("to_go", "cost"))
            draw.text((x + 2, y), f"{to_go:.0f} rows, {cost:.2f}" if column else "seen", fill="black")
    return picture

"""A few logged looks as strips: what was seen, what a world model imagines of the executed chunk, what came."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.eval.dreams import redream
from vla_mbpo.paths import robot_dir
from vla_mbpo.reports.imagined import FLOW_STEPS, Imagination
from vla_mbpo.reports.page import Html, figure, heading, percent, picture, row

SHOWN = 4  # looks, of as many attempts
VIEWS = ("head", "wrist")
UNREADABLE = (OSError, ValueError, KeyError, BadZipFile)


def strips(folders: Sequence[Path], robot: str, world_model: str) -> list[Html]:
    """Strips of attempts spread evenly over the rollouts in ``folders``; always the same ones.

    Raises:
        ConfigError: no rollouts, or no such world model.
    """
    files = [file for folder in folders for file in sorted([*folder.glob("*.npz"), *folder.glob("*/*.npz")])]
    require(bool(files), "data", [str(folder) for folder in folders], "folders with rollouts that are still there")
    spec = RobotSpec.load(robot_dir(robot))
    session = Imagination(spec, world_model).session("")
    if isinstance(session, str):
        raise ConfigError("world model", str(world_model), session)
    found: list[Html] = []
    for place in np.linspace(0, len(files) - 1, min(SHOWN, len(files))).round().astype(int):
        try:
            with np.load(files[place]) as episode:
                ends = _ends(episode, spec.horizon)
                if ends is not None:
                    dream = redream(session, episode, ends, FLOW_STEPS, np.random.default_rng(0))
                    found += _strip(files[place].stem, episode, ends, dream, spec.row_period)
        except UNREADABLE:  # ConfigError among them: pictures of another size, say
            continue
    require(
        bool(found),
        "data",
        [str(folder) for folder in folders],
        "attempts of a chunk or longer that this world model can read",
    )
    return found


def kept(file: Path, count: int = SHOWN) -> list[Html]:
    """Dreams that a run of dream RL has kept (training/dream_log.py): what was seen, and imagined chunk after chunk.

    Raises:
        ConfigError: it cannot be read, or is no file of dreams.
    """
    try:
        with np.load(file) as dreams:
            found = {name: dreams[name] for name in (*VIEWS, "to_go", "cost")}
    except UNREADABLE as error:
        raise ConfigError("dreams", str(file), f"a file of dreams ({type(error).__name__})") from None
    shown: list[Html] = []
    for number in range(min(count, len(found["head"]))):
        captions = ["Seen"] + [
            f"Imagined after chunk {chunk}: {to_go:.0f} rows to go, cost {percent(float(cost))}"
            for chunk, (to_go, cost) in enumerate(zip(found["to_go"][number], found["cost"][number], strict=True), 1)
        ]
        moments = zip(found["head"][number], found["wrist"][number], strict=True)
        shown.append(heading(f"Dream {number + 1}", 3))
        shown.append(row(*(_views(pair, words) for pair, words in zip(moments, captions, strict=True))))
    return shown


def _ends(episode: Any, horizon: int) -> list[int] | None:
    """A look in the middle of the attempt, and the one that is a chunk later."""
    at = episode["at"].tolist()
    inside = [place for place, look in enumerate(at) if look + horizon in at]
    if not inside:
        return None
    first = inside[len(inside) // 2]
    return [first, at.index(at[first] + horizon)]


def _strip(name: str, episode: Any, ends: list[int], dream: Any, period: int) -> list[Html]:
    rows = [int(episode["at"][place]) for place in ends]
    seconds = [number * period / 1e9 for number in rows]
    chance = f"cost {percent(float(dream.cost[0]))}, done {percent(float(dream.done[0]))}"
    hit = int(episode["cost"][rows[0] : rows[1]].sum()) if "cost" in episode else 0
    shown = [
        ([episode[view][ends[0]] for view in VIEWS], f"Seen at {seconds[0]:.1f} s"),
        ([getattr(dream, view)[0] for view in VIEWS], f"Imagined at {seconds[1]:.1f} s: {chance}"),
        ([episode[view][ends[1]] for view in VIEWS], f"Seen at {seconds[1]:.1f} s: {hit or 'no'} cost events"),
    ]
    well = "succeeded" if int(episode["success_row"]) >= 0 else "did not succeed"
    return [heading(f"{name}, which {well}", 3), row(*(_views(*one) for one in shown))]


def _views(pixels: Sequence[Any], caption: str) -> Html:
    pictures = [picture(view, f"{name} camera. {caption}") for view, name in zip(pixels, VIEWS, strict=True)]
    return figure(Html("".join(pictures)), caption)

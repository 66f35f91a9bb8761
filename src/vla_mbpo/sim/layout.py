"""Where things stand at the start of (task, seed): poses, colours, lights and camera jitter, all from one generator."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.sim.tasks import COLOURS, Task

CUBE_HALF = 0.0225  # m
CLEARANCE = 0.105  # least distance between the centres of things a finger must pass between, m

BASE_COLOURS = {"red": (0.85, 0.12, 0.10), "green": (0.12, 0.65, 0.18), "blue": (0.12, 0.25, 0.85)}


@dataclass(frozen=True)
class Layout:
    """Start state of the table-top. Positions in the robot base frame [m], yaw in rad.

    Attributes:
        cubes: colour -> (x, y, yaw).
        bin, plate, mark, button, drawer: (x, y).
        distractors: list of (x, y) of small grey things.
        home_noise: offset of the arm's start pose [rad], (7,).
        colours: colour name -> rgb.
        table: rgb.
        light: (direction x, y, brightness).
        camera_jitter: camera -> (offset [m] (3,), rotation vector [rad] (3,)).
    """

    cubes: dict[str, tuple[float, float, float]]
    bin: tuple[float, float]
    plate: tuple[float, float]
    mark: tuple[float, float]
    button: tuple[float, float]
    drawer: tuple[float, float]
    distractors: tuple[tuple[float, float], ...]
    home_noise: NDArray[np.float64]
    colours: dict[str, tuple[float, float, float]]
    table: tuple[float, float, float]
    light: tuple[float, float, float]
    camera_jitter: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def sample_layout(task: Task, seed: int) -> Layout:
    """Draw the layout of (task, seed). The same arguments always give the same layout."""
    rng = np.random.default_rng([seed, zlib.crc32(task.name.encode())])

    def around(x: float, y: float, spread: float) -> tuple[float, float]:
        return x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread)

    fixtures = {
        "bin": around(0.47, -0.31, 0.025),
        "plate": around(0.40, 0.29, 0.025),
        "button": around(0.67, -0.13, 0.025),
        "drawer": around(0.72, 0.19, 0.02),
    }
    button = fixtures["button"]
    mark = (rng.uniform(0.50, 0.56), rng.uniform(-0.10, 0.06))
    cubes = _place_cubes(task, mark, rng)
    taken = [mark, *[(x, y) for x, y, _ in cubes.values()]]
    distractors = []
    for _ in range(int(rng.integers(0, 3))):
        spot = _free_spot(rng, taken, (0.30, 0.60), (-0.14, 0.12), 0.09)
        if spot is not None:
            distractors.append(spot)
            taken.append(spot)
    tint = rng.uniform(-0.06, 0.06, (3, 3))
    colours = {name: _rgb(np.clip(np.array(BASE_COLOURS[name]) + tint[i], 0.03, 1.0)) for i, name in enumerate(COLOURS)}
    return Layout(
        cubes=cubes,
        mark=mark,
        distractors=tuple(d for d in distractors if np.hypot(d[0] - button[0], d[1] - button[1]) > 0.06),
        home_noise=rng.uniform(-0.06, 0.06, 7),
        colours=colours,
        table=_rgb(np.array([0.62, 0.52, 0.42]) + rng.uniform(-0.08, 0.08, 3)),
        light=(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0.35, 0.60)),
        camera_jitter={
            name: (rng.uniform(-size, size, 3), rng.uniform(-turn, turn, 3))
            for name, size, turn in (("head", 0.003, 0.003), ("wrist", 0.001, 0.003))
        },
        **fixtures,
    )


def _rgb(value: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(value[0]), float(value[1]), float(value[2])


def _place_cubes(task: Task, mark: tuple[float, float], rng: np.random.Generator) -> dict:
    """Cubes with room for the fingers; the pushed cube stands before the mark, seen from the robot."""
    cubes: dict[str, tuple[float, float, float]] = {}
    taken = [mark]
    order = [task.cube, *COLOURS] if task.kind == "push" else list(rng.permutation(COLOURS))
    for colour in dict.fromkeys(order):
        yaw = rng.uniform(-0.26, 0.26)
        if task.kind == "push" and colour == task.cube:
            x, y = mark[0] - rng.uniform(0.10, 0.15), mark[1] + rng.uniform(-0.02, 0.02)
            taken += [(x, y), (x - 0.06, y), ((x + mark[0]) / 2, (y + mark[1]) / 2)]
        else:
            spot = _free_spot(rng, taken, (0.34, 0.54), (-0.125, 0.13), CLEARANCE)
            if spot is None:  # the table is full: start over with the generator where it is
                return _place_cubes(task, mark, rng)
            x, y = spot
            taken.append(spot)
        cubes[colour] = (x, y, yaw)
    return cubes


def _free_spot(rng, taken, xs, ys, clearance) -> tuple[float, float] | None:
    """A random point at least ``clearance`` from all taken ones, or None after 200 tries."""
    for _ in range(200):
        x, y = rng.uniform(*xs), rng.uniform(*ys)
        if all((x - a) ** 2 + (y - b) ** 2 >= clearance**2 for a, b in taken):
            return x, y
    return None

"""Layouts over 300 seeds of every task: room for the fingers, within reach, goals apart from the objects."""

import itertools
from functools import cache

import numpy as np
import pytest

from vla_mbpo.sim.layout import CLEARANCE, CUBE_HALF, Layout, sample_layout
from vla_mbpo.sim.scene import BIN_HALF, MARK_RADIUS, PLATE_RADIUS
from vla_mbpo.sim.tasks import TASKS

SEEDS = range(300)
CORNER = CUBE_HALF * np.sqrt(2)
REACH = 0.80  # m from the base axis, tool pointing down
FOOTPRINT = {"bin": BIN_HALF * np.sqrt(2), "plate": PLATE_RADIUS, "button": 0.042}  # m, circles around them

pytestmark = pytest.mark.parametrize("task", TASKS)


@cache
def layouts(task: str) -> list[Layout]:
    return [sample_layout(TASKS[task], seed) for seed in SEEDS]


def distance(a, b) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def test_cubes_stand_a_hand_apart(task):
    for seed, layout in enumerate(layouts(task)):
        for a, b in itertools.combinations(layout.cubes.values(), 2):
            assert distance(a, b) >= CLEARANCE, seed


def test_distractors_keep_away_from_cubes_and_mark(task):
    for seed, layout in enumerate(layouts(task)):
        for spot in layout.distractors:
            assert all(distance(spot, other) >= 0.09 for other in (*layout.cubes.values(), layout.mark)), seed


def test_all_three_cubes_are_there(task):
    assert all(set(layout.cubes) == {"red", "green", "blue"} for layout in layouts(task))


def test_cubes_do_not_stand_on_the_fixtures(task):
    for seed, layout in enumerate(layouts(task)):
        for name, radius in FOOTPRINT.items():
            for cube in layout.cubes.values():
                assert distance(cube, getattr(layout, name)) > radius + CORNER, (seed, name)


def test_no_cube_stands_on_the_mark(task):
    for seed, layout in enumerate(layouts(task)):
        for cube in layout.cubes.values():
            assert distance(cube, layout.mark) > MARK_RADIUS + CORNER, seed


def test_everything_to_be_touched_is_within_reach(task, spec):
    low, high = spec.workspace_lower[:2], spec.workspace_upper[:2]
    for seed, layout in enumerate(layouts(task)):
        handle = (layout.drawer[0] - 0.09, layout.drawer[1])
        for spot in (*layout.cubes.values(), layout.bin, layout.plate, layout.mark, layout.button, handle):
            assert distance(spot, (0, 0)) < REACH, seed
            assert np.all((np.array(spot[:2]) > low) & (np.array(spot[:2]) < high)), seed


def test_no_task_is_done_at_the_start(task):
    for seed, layout in enumerate(layouts(task)):
        chosen = TASKS[task]
        if not chosen.cube:
            continue
        goal = layout.cubes[chosen.goal] if chosen.kind == "stack" else getattr(layout, chosen.goal)
        assert distance(layout.cubes[chosen.cube], goal) > 0.09, seed


def test_colours_are_colours(task):
    for layout in layouts(task):
        for rgb in (*layout.colours.values(), layout.table):
            assert all(0 <= value <= 1 for value in rgb)


def test_red_green_and_blue_stay_what_they_are_called(task):
    for layout in layouts(task):
        for i, name in enumerate(("red", "green", "blue")):
            assert np.argmax(layout.colours[name]) == i

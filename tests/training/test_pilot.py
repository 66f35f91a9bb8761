"""A policy drives between the expert's stretches: who drives when, and what is learned from it."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.sim.cameras import SceneCamera  # noqa: E402  (after the check that torch is there)
from vla_mbpo.sim.robot import SimRobot  # noqa: E402
from vla_mbpo.sim.scene import Scene  # noqa: E402
from vla_mbpo.training import demonstrations  # noqa: E402
from vla_mbpo.training.demonstrations import Recipe, demonstrate  # noqa: E402
from vla_mbpo.training.pilot import EXPERT_ROWS, POLICY_ROWS, TOO_LOW, Pilot  # noqa: E402


@pytest.fixture
def robot(spec):
    return SimRobot(spec, Scene.build(spec, "button", 0))


@pytest.fixture
def pilot(robot, tiny_bundle):
    camera = SceneCamera(robot.scene, 32)
    yield Pilot(tiny_bundle, robot, camera, np.random.default_rng(0))
    camera.close()


def stretches(pilot, rows: int) -> list[tuple[bool, int]]:
    """(does the policy drive, for how many rows) in order."""
    found = []
    target = pilot._robot.state().positions
    for _ in range(rows):
        pilot.maybe_begin()
        active = pilot.active
        pilot.apply(target, 0.04)
        if found and found[-1][0] == active:
            found[-1] = (active, found[-1][1] + 1)
        else:
            found.append((active, 1))
    return found[1:-1]


def test_policy_and_expert_take_turns_of_the_documented_lengths(pilot):
    found = stretches(pilot, 400)
    assert {active for active, _ in found} == {True, False}
    for active, length in found:
        low, high = POLICY_ROWS if active else EXPERT_ROWS
        assert low <= length <= high


def test_the_expert_s_rows_pass_unchanged(pilot):
    target = np.arange(7.0)
    assert not pilot.active
    row, opening = pilot.apply(target, 0.03)
    assert row is target and opening == 0.03


def test_the_policy_is_relieved_where_the_gate_would_stop_it(pilot, robot):
    while not pilot.active:
        pilot.maybe_begin()
    robot.data.body(robot.spec.tool_link).xpos[2] = TOO_LOW - 0.001
    pilot.apply(robot.state().positions, 0.04)
    assert not pilot.active


def test_nothing_is_looked_at_while_the_policy_drives(spec, tiny_bundle, monkeypatch):
    """An untrained policy drives a few rows; the expert ends the attempt."""
    monkeypatch.setattr("vla_mbpo.training.pilot.POLICY_ROWS", (3, 6))
    recipe = dataclasses.replace(Recipe(image_size=32), pilot=str(tiny_bundle))
    episode = next(e for seed in range(10) if (e := demonstrate(spec, "button", seed, recipe)) is not None)
    assert not episode["clean"].all()
    assert episode["clean"][episode["at"]].all()
    assert demonstrations.AFTER_SUCCESS < len(episode["target"]) <= demonstrations.MAX_ROWS

"""Actions of Meta-World and rows of a chunk: the one says what the other does. No simulator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metaworld.frames import ROW_STEPS, STEP, action_towards, averaged, effort, opening, row_of
from benchmarks.metaworld.tasks import ROBOT
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir

numbers = st.floats(-2.0, 2.0, width=32)
actions = st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=ROW_STEPS, max_size=ROW_STEPS)
START = np.array([0.1, 0.6, 0.2])


def driven(action: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Where Meta-World moves the set point by one action."""
    return start + STEP * np.clip(action[:3], -1.0, 1.0)


@given(actions)
def test_the_average_of_a_rows_actions_ends_where_they_end(several):
    tried, held = START, START
    for action in several:
        tried = driven(np.array(action), tried)
    for _ in range(ROW_STEPS):
        held = driven(averaged(np.array(several)), held)
    np.testing.assert_allclose(held, tried, atol=1e-9)
    np.testing.assert_allclose(row_of(averaged(np.array(several)), START)[0], tried, atol=1e-9)


@given(st.tuples(numbers, numbers, numbers, numbers))
def test_a_row_is_executed_as_the_action_that_it_is_of(raw):
    action = np.array(raw)
    target, grip = row_of(action, START)
    place = START
    for step in range(ROW_STEPS):  # as the controller samples a straight way
        there = START + (step + 1) / ROW_STEPS * (target - START)
        made = action_towards(there, place, grip)
        np.testing.assert_allclose(made, np.clip(action, -1.0, 1.0), atol=1e-6)
        place = driven(made, place)
    np.testing.assert_allclose(place, target, atol=1e-9)


def test_what_is_too_far_away_is_approached_at_full_speed():
    made = action_towards(START + np.array([1.0, -1.0, 0.0]), START, 0.5)
    np.testing.assert_array_equal(made, [1.0, -1.0, 0.0, 0.0])


@pytest.mark.parametrize(("push", "open_"), [(-1.0, 1.0), (0.0, 0.5), (1.0, 0.0), (3.0, 0.0), (-3.0, 1.0)])
def test_efforts_are_openings(push, open_):
    assert opening(push) == open_
    assert effort(open_) == pytest.approx(np.clip(push, -1.0, 1.0))


def test_rows_less_the_measured_tool_are_cartesian_deltas():
    """The gate makes the same rows of Cartesian-delta rows and of rows of the robot whose joints are the tool's."""
    spec = RobotSpec.load(robot_dir(ROBOT))
    gate, here = Gate(spec), np.array([0.05, 0.62, 0.15])
    ahead = np.linspace(0.0, 0.1, spec.horizon)[:, None] * np.array([1.0, 0.5, -0.5])
    state = RobotState(1, here, np.zeros(3), 0.5)

    def vetted(kind: ActionType, positions: np.ndarray) -> np.ndarray:
        chunk = ActionChunk(
            1, 0, 1, 1 + spec.horizon * spec.row_period, kind, spec.joints, here, spec.row_period, positions,
            np.full(spec.horizon, 0.5),
        )  # fmt: skip
        return gate.vet(chunk, state, None, 1).positions

    as_deltas = vetted(ActionType.CARTESIAN_DELTA, np.concatenate([ahead, np.zeros_like(ahead)], 1))
    np.testing.assert_allclose(as_deltas, vetted(ActionType.JOINT_POSITION, here + ahead), atol=2e-4)

"""Cartesian action types: rows by differential inverse kinematics, then the same checks as for joints."""

import mink
import numpy as np
import pytest
from gate_samples import NOW, checks, chunk, gate, spec, state, vet
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.chunk import ActionType, JointRows
from vla_mbpo.gate.checks.check import Context
from vla_mbpo.gate.checks.reach import Reach
from vla_mbpo.gate.conversion import Converter

DELTA, TWIST = ActionType.CARTESIAN_DELTA, ActionType.TWIST
EASE = (np.arange(1, 17)[:, None] / 16) ** 2 * (3 - np.arange(1, 17)[:, None] / 8)  # from rest to rest


def delta(*to: float):
    return chunk(EASE * np.array(to), action_type=DELTA)


def tool_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    position, rotation = gate().kinematics.tool_at(rows)
    return position, rotation


HOME, TURNED = tool_of(spec().home)


def test_no_motion_asked_for_is_no_motion():
    verdict = vet(delta(0, 0, 0, 0, 0, 0))
    assert isinstance(verdict, JointRows), verdict
    assert np.abs(verdict.positions - spec().home).max() < 1e-3


def test_a_delta_is_in_the_frame_of_the_tool_at_the_reference():
    """The tool points down: its z axis is the base's -z."""
    verdict = vet(delta(0.0, 0.0, 0.05, 0.0, 0.0, 0.0))
    assert isinstance(verdict, JointRows), verdict
    np.testing.assert_allclose(tool_of(verdict.positions[-1])[0], HOME - [0, 0, 0.05], atol=2e-3)


def test_a_twist_is_in_the_base_frame_and_lasts_a_row():
    speed = np.zeros((16, 6))
    speed[:, 0] = 0.10 * np.sin(np.linspace(0, np.pi, 16))
    verdict = vet(chunk(speed, action_type=TWIST))
    assert isinstance(verdict, JointRows), verdict
    np.testing.assert_allclose(tool_of(verdict.positions[-1])[0], HOME + [speed[:, 0].sum() * 0.05, 0, 0], atol=2e-3)


def test_a_twist_turns_the_tool_about_the_axes_of_the_base():
    speed = np.zeros((16, 6))
    speed[:, 5] = 0.3 * np.sin(np.linspace(0, np.pi, 16))
    verdict = vet(chunk(speed, action_type=TWIST))
    assert isinstance(verdict, JointRows), verdict
    asked = mink.SO3.exp(np.array([0, 0, speed[:, 5].sum() * 0.05])).as_matrix() @ TURNED
    np.testing.assert_allclose(tool_of(verdict.positions[-1])[1], asked, atol=0.012)


@given(st.lists(st.floats(-0.1, 0.1), min_size=6, max_size=6))
def test_what_is_approved_leads_where_it_says(to):
    verdict = vet(delta(*to))
    if isinstance(verdict, JointRows):
        asked = HOME + TURNED @ np.array(to[:3])
        assert np.linalg.norm(tool_of(verdict.positions[-1])[0] - asked) <= 0.002 + 1e-9


@pytest.mark.parametrize("to", [(2.0, 0, 0, 0, 0, 0), (0, 0, -1.5, 0, 0, 0), (0, 0, 0, 3.0, 0, 0)])
def test_what_cannot_be_reached_or_not_in_time_is_refused(to):
    assert checks(vet(delta(*to)))


def test_rows_that_inverse_kinematics_cannot_follow_are_named():
    """The check on its own: the checks of joints would refuse such rows first."""
    rows = np.zeros((16, 6))
    rows[:, 2] = -np.linspace(0.0, 1.2, 16)
    made = chunk(rows, action_type=DELTA)
    context = Context(spec(), gate().config, gate().kinematics, state(), None, NOW)
    found = Reach()(made, Converter(spec(), (DELTA,)).rows(made), context)
    assert (found.check, found.subject) == ("reach", "tool m") and found.row > 0


@pytest.mark.parametrize("kind", [DELTA, TWIST])
def test_joint_rows_under_a_cartesian_type_are_refused(kind):
    assert checks(vet(chunk(action_type=kind))) == {"format"}


@pytest.mark.parametrize("kind", [DELTA, TWIST])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e-310, 1e308])
def test_a_number_that_is_none_never_reaches_inverse_kinematics(kind, value):
    rows = np.zeros((16, 6))
    rows[4, 3] = value
    (found,) = vet(chunk(rows, action_type=kind))
    assert (found.check, found.row, found.subject) == ("finite", 4, "tool x")

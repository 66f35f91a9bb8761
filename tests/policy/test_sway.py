"""What a dry run without a bundle proposes: chunks that join, stay near and pass the gate at any limits."""

import numpy as np
import pytest

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.sway import SWING, SwaySession

NONE = np.zeros((0, 6))


@pytest.fixture(scope="module")
def ur5e():
    return RobotSpec.load(robot_dir("ur5e"))


def look(session, stamp, joints, prefix=NONE, openings=NONE[:, 0]):
    dark = np.zeros((96, 96, 3), np.uint8)
    seen = Observation(stamp, dark, dark, joints, np.zeros(6), 0.05)
    return session.infer(seen, "anything", prefix, openings, 2, np.random.default_rng(0))


def test_each_chunk_goes_on_where_the_committed_rows_lead(ur5e):
    session, period = SwaySession(ur5e), ur5e.row_period
    first = look(session, 0, ur5e.home)
    assert first.positions.shape == (2, ur5e.horizon, 6)
    prefix, openings = first.positions[0, 8:11], first.gripper[0, 8:11]
    second = look(session, 8 * period, first.positions[0, 7], prefix, openings)
    np.testing.assert_allclose(second.positions[0, :8], first.positions[0, 8:], atol=1e-12)
    assert 0.0 < np.abs(second.positions - ur5e.home).max() <= SWING
    assert set(second.gripper.ravel()) == {0.05}


@pytest.mark.parametrize("share", [1.0, 0.1, 0.02])
def test_the_gate_takes_it_at_any_limits(ur5e, share):
    spec = ur5e.scaled(share)
    rows = look(SwaySession(spec), 0, spec.home)
    chunk = ActionChunk(
        1, 0, 0, 800_000_000, ActionType.JOINT_POSITION, spec.joints, spec.home.copy(), spec.row_period,
        rows.positions[0], rows.gripper[0],
    )  # fmt: skip
    now = 100_000_000
    verdict = Gate(spec).vet(chunk, RobotState(now, spec.home.copy(), np.zeros(6), 0.05), None, now)
    assert isinstance(verdict, JointRows), verdict


def test_it_turns_away_from_the_limit(ur5e):
    joints = ur5e.home.copy()
    joints[-1] = ur5e.upper[-1] - 0.01
    assert (look(SwaySession(ur5e), 0, joints).positions[..., -1] <= joints[-1]).all()

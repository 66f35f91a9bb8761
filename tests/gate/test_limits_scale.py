"""Limits of a first day: the gate refuses what it takes otherwise, and the driver is never faster than they say."""

import numpy as np
import pytest

from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.paths import robot_dir

TICK = 20_000_000


@pytest.fixture(scope="module")
def ur5e():
    return RobotSpec.load(robot_dir("ur5e"))


def vet(spec, way):
    """The verdict on a turn of the last joint by ``way`` [rad] in 0.8 s, from rest to rest, at time 0.1 s."""
    rows = np.tile(spec.home, (spec.horizon, 1))
    rows[:, -1] += way * (0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, spec.horizon)))
    chunk = ActionChunk(
        1, 0, 0, 800_000_000, ActionType.JOINT_POSITION, spec.joints, spec.home.copy(), spec.row_period, rows,
        np.full(spec.horizon, 0.04),
    )  # fmt: skip
    now = 5 * TICK
    state = RobotState(now, spec.home.copy(), np.zeros(len(spec.joints)), 0.04)
    return Gate(spec).vet(chunk, state, None, now)


def test_the_gate_refuses_at_reduced_limits_what_it_takes_at_full_ones(ur5e):
    assert isinstance(vet(ur5e, 0.3), JointRows)
    assert "joint_velocity" in {reason.check for reason in vet(ur5e.scaled(0.1), 0.3)}
    assert isinstance(vet(ur5e.scaled(0.1), 0.03), JointRows)


def test_the_driver_keeps_the_reduced_limits(ur5e):
    slow = ur5e.scaled(0.1)
    driver, rows = ArmDriver(slow), vet(slow, 0.05)
    positions, fastest, hardest, before = slow.home.copy(), 0.0, 0.0, 0.0
    for now in range(5 * TICK, 60 * TICK, TICK):
        driver.measure(RobotState(now, positions, np.zeros(len(slow.joints)), 0.04))
        if now == 5 * TICK:
            assert driver.offer(rows, now) == ()
        trajectory = driver.tick(now)
        if trajectory is not None:
            positions = trajectory.positions[0]
            speed = float(trajectory.velocities[0][-1])
            hardest, before = max(hardest, abs(speed - before) / (TICK / 1e9)), speed
            fastest = max(fastest, abs(speed))
    assert 0.02 < fastest <= slow.velocity[-1] and hardest <= slow.acceleration[-1] * 1.01
    assert abs(positions[-1] - slow.home[-1] - 0.05) < 0.01

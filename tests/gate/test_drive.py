"""What is judged is what the arm driver will do, not the rows alone.

Incident (review): a chunk 8 mm above the table, approved, went 57 mm into it. Joints that the rows asked too much of
lagged and caught up past the last row, while the others were on time.
"""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.config import GateConfig, slowed
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.paths import robot_dir

START, AGE, TICK = 1_000_000_000_000, 10_000_000, 20_000_000
ROBOTS = ("sim_panda", "franka_fr3", "ur5e", "xarm7")


def robot(name):
    """Its limits, and the gate that it is shipped with."""
    said = yaml.safe_load((robot_dir(name) / "params.yaml").read_text())["gate"]["ros__parameters"]
    checks = {key.removeprefix("checks."): value for key, value in said.items() if key.startswith("checks.")}
    return RobotSpec.load(robot_dir(name)), GateConfig(**checks)


def chunk(spec, rows, start):
    return ActionChunk(
        1, 0, START - AGE, START - AGE + 16 * spec.row_period, ActionType.JOINT_POSITION, spec.joints, start,
        spec.row_period, rows, np.zeros(0), 0,
    )  # fmt: skip


def at_rest(spec, joints):
    return RobotState(START, joints, np.zeros(len(spec.joints)), spec.gripper_range[1])


def driven(spec, approved, start):
    """Set points of a driver that executes approved rows with a perfect arm, tick by tick."""
    driver, now, q, points = ArmDriver(spec), START, start, []
    driver.measure(at_rest(spec, start))
    assert driver.offer(approved, now) == ()
    for _ in range(90):
        driver.measure(RobotState(now, q, np.zeros(len(q)), spec.gripper_range[1]))
        driver.tick(now)
        commanded = driver.commanded(now)
        q = q if commanded is None else commanded
        points.append(q)
        now += TICK
    return np.array(points)


def low_motions(spec, gate, count, seed=1):
    """Start and rows of horizontal motions 3 mm above the table's margin: from rest, fast, at once or ramped."""
    ik, kinematics, rng = ToolIK(spec, spec.home), Kinematics(spec), np.random.default_rng(seed)
    low, high = spec.workspace_lower, spec.workspace_upper
    while count:
        ik.reset(spec.home)
        place = np.array([*rng.uniform(low[:2] + 0.03, high[:2] - 0.03), 0.05])
        kinematics.place(ik.solve(place, 150)[None])
        place[2] = max(place[2] - kinematics.table_clearance().min() + spec.table_margin + 0.003, low[2] + 0.001)
        start, angle = ik.solve(place, 150), rng.uniform(0, 2 * np.pi)
        top, ramp, length = rng.uniform(0.2, 0.95) * spec.tool_speed[0], rng.uniform(2, 14), rng.uniform(0.05, 0.3)
        way = speed = 0.0
        rows = []
        for _ in range(16):
            faster = min(top, speed + 0.05 * ramp, 0.9 * np.sqrt(max(0.0, 2 * ramp * (length - way))))
            way, speed = way + 0.025 * (speed + faster), faster
            tool = place + way * np.array([np.cos(angle), np.sin(angle), 0.0])
            if ((tool < low) | (tool > high)).any():
                break
            rows.append(ik.solve(tool, 25))
        if len(rows) == 16:
            count -= 1
            yield start, np.array(rows)


@pytest.mark.parametrize("name", ROBOTS)
def test_no_approved_chunk_is_driven_into_the_table(name):
    spec, config = robot(name)
    gate, kinematics, seen, kept = Gate(spec, config), Kinematics(spec), 0, 0
    for start, rows in low_motions(spec, gate, 15):
        verdict = gate.vet(chunk(spec, rows, start), at_rest(spec, start), None, START)
        if not isinstance(verdict, JointRows):
            kept += any(reason.note.endswith("as it is driven") for reason in verdict)
            continue
        seen += 1
        kinematics.place(driven(spec, verdict, start))
        assert kinematics.table_clearance().min() > 0.0
    assert seen >= 3
    assert kept >= (name == "ur5e")  # whose elbow is the slowest of all: there this check has work to do


def test_it_is_what_the_driver_does():
    spec, config = robot("sim_panda")
    gate, drive = Gate(spec, config), Drive(spec)
    ways = 0
    for start, rows in low_motions(spec, gate, 6):
        of = chunk(spec, rows, start)
        verdict = gate.vet(of, at_rest(spec, start), None, START)
        if isinstance(verdict, JointRows):
            ways += 1
            ahead, done = drive.path(of, rows, start, np.zeros(7), START), driven(spec, verdict, start)
            assert np.abs(done[: len(ahead)] - ahead).max() < 1e-9
            assert np.abs(done[len(ahead) :] - ahead[-1]).max() < 1e-9
    assert ways


def test_a_lowered_limit_holds_for_what_catches_up():
    """Rows of 0.1 rad/s that begin 0.02 rad away: the driver, which knows of no lower limit, would run there."""
    spec, config = robot("xarm7")
    slow = Gate(spec, slowed(replace(config, tool_speed_factor=1.0), 0.05))
    limit = 0.05 * spec.velocity[0]
    rows = np.tile(spec.home, (16, 1))
    rows[:, 0] += 0.025 + 0.9 * limit * 0.05 * np.arange(16)
    verdict = slow.vet(chunk(spec, rows, spec.home), at_rest(spec, spec.home), None, START)
    assert not isinstance(verdict, JointRows) and "driven_velocity" in {reason.check for reason in verdict}
    late = START + 300_000_000  # row 6 is the next that is due
    found = slow.vet(chunk(spec, rows, spec.home), replace(at_rest(spec, spec.home), stamp=late), None, late)
    assert min(reason.row for reason in found) >= 6  # incident: rows that were past by then
    on_time = np.tile(spec.home, (16, 1))
    on_time[:, 0] += 0.9 * limit * 0.05 * np.arange(16)
    assert isinstance(slow.vet(chunk(spec, on_time, spec.home), at_rest(spec, spec.home), None, START), JointRows)


def test_an_arm_that_is_faster_than_a_lowered_limit_may_slow_down():
    spec, config = robot("xarm7")
    slow = Gate(spec, slowed(config, 0.3))
    speed = np.zeros(len(spec.joints))
    speed[0] = 0.5 * spec.velocity[0]
    rows = np.tile(spec.home, (16, 1))
    rows[:, 0] += 0.01
    verdict = slow.vet(
        chunk(spec, rows, spec.home), replace(at_rest(spec, spec.home), velocities=speed), spec.home, START,
        velocity=speed,
    )  # fmt: skip
    refused = set() if isinstance(verdict, JointRows) else {reason.check for reason in verdict}
    assert not refused & {"driven_velocity", "tool_speed"}


def test_a_robot_whose_joints_are_in_another_order_than_its_urdf_is_refused():
    """Incident (review): a jog of one joint moved the tool faster than a person may, by another joint's Jacobian."""
    spec, _ = robot("ur5e")
    with pytest.raises(ValueError, match="joints: .* in the order of the URDF"):
        ToolIK(replace(spec, joints=(spec.joints[2], *spec.joints[:2], *spec.joints[3:])), spec.home)

"""Two arms under one gate: a pair of chunks passes as a whole, and never where the arms would come together."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from vla_mbpo.arm.together import Drivers
from vla_mbpo.core.cell import Cell
from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.state import RobotState
from vla_mbpo.eval.hand_over import load_cell
from vla_mbpo.gate.cell import CellGate, Together
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.paths import cell_dir, robot_dir

STAMP = 1_000_000_000_000
NOW = STAMP + 100_000_000


@pytest.fixture(scope="module")
def cell():
    return load_cell()


@pytest.fixture(scope="module")
def gate(cell):
    return CellGate(cell)


def state(arm, joints, stamp=NOW):
    return RobotState(stamp, joints, np.zeros(len(joints)), arm.spec.gripper_range[1])


def chunk(arm, rows, **changes):
    made = ActionChunk(
        chunk_set_id=1,
        candidate=0,
        observation_stamp=STAMP,
        expiry=STAMP + 800_000_000,
        action_type=ActionType.JOINT_POSITION,
        joint_names=arm.spec.joints,
        reference=rows[0].copy(),
        row_period=arm.spec.row_period,
        positions=rows,
        gripper=np.full(len(rows), arm.spec.gripper_range[1]),
    )
    return replace(made, **changes)


def way(start, end, rows=16):
    """From rest to rest."""
    share = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, rows))
    return start + share[:, None] * (end - start)


def tool_at(arm, point):
    """Joints (n,) that bring the tool of ``arm`` to a point of the cell's frame, pointing down."""
    return ToolIK(arm.spec, arm.spec.home).solve(arm.to_base(np.array(point)), 60)


def towards_each_other(cell, gap):
    """Chunks of 0.8 s that bring both tools from 0.12 m off a common height to ``gap`` [m] apart, and the states."""
    ends = [tool_at(arm, (0.65 + side * gap / 2, 0.0, 0.35)) for arm, side in zip(cell.arms, (-1, 1), strict=True)]
    starts = [
        tool_at(arm, (0.65 + side * (gap / 2 + 0.06), 0.0, 0.35)) for arm, side in zip(cell.arms, (-1, 1), strict=True)
    ]
    chunks = [chunk(arm, way(a, b)) for arm, a, b in zip(cell.arms, starts, ends, strict=True)]
    return chunks, [state(arm, joints) for arm, joints in zip(cell.arms, starts, strict=True)]


def vet(gate, chunks, states):
    return gate.vet(chunks, states, [None] * len(chunks), NOW)


def test_arms_that_keep_apart_pass_together(cell, gate):
    found = vet(gate, *towards_each_other(cell, 0.20))
    assert isinstance(found, Together) and [rows.joint_names for rows in found.rows] == [
        arm.spec.joints for arm in cell.arms
    ]


def test_a_chunk_in_which_the_arms_would_collide_is_refused(cell, gate):
    """Either arm alone may go there: each chunk passes beside an arm that stays at home."""
    chunks, states = towards_each_other(cell, 0.05)
    (reason,) = vet(gate, chunks, states)
    assert reason.check == "inter_arm" and "left/" in reason.subject and "right/" in reason.subject
    assert reason.value < reason.limit == cell.margin
    for index in (0, 1):
        other = cell.arms[1 - index]
        still = np.tile(other.spec.home, (16, 1))
        pair, measured = [chunk(other, still)] * 2, [state(other, other.spec.home)] * 2
        pair[index], measured[index] = chunks[index], states[index]
        assert isinstance(vet(gate, pair, measured), Together)


def test_a_reason_of_one_arm_refuses_both_and_names_it(cell, gate):
    chunks, states = towards_each_other(cell, 0.20)
    rows = chunks[1].positions.copy()
    rows[8:, 0] += 1.0
    reasons = vet(gate, [chunks[0], chunk(cell.arms[1], rows)], states)
    assert "joint_velocity" in {reason.check for reason in reasons}
    assert all(reason.subject.startswith("right/") for reason in reasons)


@pytest.mark.parametrize(
    ("field", "value"), [("observation_stamp", STAMP - 50_000_000), ("chunk_set_id", 2), ("row_period", 60_000_000)]
)
def test_chunks_of_different_moments_are_not_compared(cell, gate, field, value):
    chunks, states = towards_each_other(cell, 0.20)
    (reason,) = vet(gate, [chunks[0], replace(chunks[1], **{field: value})], states)
    assert (reason.check, reason.subject) == ("together", field)


def test_one_chunk_for_two_arms_is_refused(cell, gate):
    chunks, states = towards_each_other(cell, 0.20)
    (reason,) = gate.vet(chunks[:1], states, [None, None], NOW)
    assert reason.check == "together"


def test_when_one_arm_stops_the_other_does(cell, gate):
    chunks, states = towards_each_other(cell, 0.20)
    drivers = Drivers([arm.spec for arm in cell.arms])
    found = vet(gate, chunks, states)
    drivers.measure(states)
    assert drivers.offer(found.rows, NOW) == ()
    assert all(drivers.tick(NOW + 20_000_000))
    left, right = drivers.drivers
    left.measure(state(cell.arms[0], states[0].positions + 0.6, NOW + 30_000_000))  # somebody pushes it
    drivers.tick(NOW + 40_000_000)
    assert "behind its command" in left.stop_reason and "another arm stopped" in right.stop_reason
    assert right.clock.first_due(NOW + 40_000_000) is None


def test_when_one_arm_refuses_its_rows_the_other_does_not_go(cell, gate):
    chunks, states = towards_each_other(cell, 0.20)
    drivers = Drivers([arm.spec for arm in cell.arms])
    found = vet(gate, chunks, states)
    drivers.measure(states)
    drivers.drivers[1].stop("test", latch=True)
    (reason,) = drivers.offer(found.rows, NOW)
    assert reason.check == "stopped" and drivers.drivers[0].clock.first_due(NOW) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margin": 0.0}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"arms": {"left": {"robot": "sim_panda", "position": [0, 0, 0], "yaw": 0}}}, "two arms"),
        ({"speed": 1}, "expected arms, margin, name"),
    ],
)
def test_a_wrong_cell_is_refused(tmp_path, change, words):
    raw = yaml.safe_load((cell_dir("hand_over") / "cell.yaml").read_text()) | change
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=words):
        Cell.load(tmp_path, robot_dir)


def test_arms_that_stand_in_each_other_are_refused(tmp_path):
    raw = yaml.safe_load((cell_dir("hand_over") / "cell.yaml").read_text())
    raw["arms"]["right"]["position"] = [0.80, 0.0, 0.0]
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="closer than this at home"):
        CellGate(Cell.load(tmp_path, robot_dir))

"""Whether rows and measured states are fit to be used at all: layout, numbers, stamps."""

import numpy as np

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason


def rows_fault(rows: JointRows, spec: RobotSpec, now: int, config: DriverConfig) -> Reason | None:
    """Why ``rows`` are no rows for this robot at ``now`` [ns]; None: they are."""
    n, shape = len(spec.joints), rows.positions.shape
    if rows.joint_names != spec.joints:
        return Reason("format", -1, "joint_names", len(rows.joint_names), n, f"got {rows.joint_names}")
    if rows.row_period != spec.row_period:
        return Reason("format", -1, "row_period", rows.row_period / 1e9, spec.row_period / 1e9)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != n or rows.gripper.shape not in ((0,), (shape[0],)):
        return Reason("format", -1, "positions", rows.positions.size, n, f"shape {shape}, gripper {rows.gripper.shape}")
    if not (np.isfinite(rows.positions).all() and np.isfinite(rows.gripper).all()):
        return Reason("finite", -1, "positions", float("nan"), 0.0)
    if now > rows.expiry:
        return Reason("expired", -1, "expiry", (now - rows.expiry) / 1e9, 0.0)
    ahead = (rows.observation_stamp - now) / 1e9
    if ahead > config.max_future:
        return Reason("future", -1, "observation_stamp", ahead, config.max_future)
    return None


def state_fault(state: RobotState | None, joints: int, now: int, config: DriverConfig) -> str:
    """Why the measured state cannot be used at ``now`` [ns]; empty: it can."""
    if state is None:
        return "no measured state"
    age = (now - state.stamp) / 1e9
    if age > config.max_state_age:
        return f"measured state {age:.3f} s old"
    if -age > config.max_future:
        return f"measured state {-age:.3f} s in the future"
    if state.positions.shape != (joints,) or not np.isfinite(state.positions).all():
        return "measured state not finite"
    return ""

"""Which links of a robot stay where they are to each other."""

import numpy as np
import pytest

from vla_mbpo.calibrate.poses import ToolPoses
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir, robots


@pytest.mark.parametrize("name", robots())
def test_a_joint_between_two_links_is_noticed_whatever_its_limits(name):
    """Incident: a UR5e's joints go from -2 pi to 2 pi, the same pose, and counted as fixed."""
    spec = RobotSpec.load(robot_dir(name))
    kinematics = ToolPoses(spec)
    assert kinematics.fixed(spec.base_frame, spec.tool_link) is None
    assert kinematics.fixed("wrist_camera_optical_frame", spec.base_frame) is None
    assert kinematics.fixed(spec.tool_link, "nobody") is None
    held, stands = (kinematics.fixed(link, view) for link, view in (
        (spec.tool_link, "wrist_camera_optical_frame"), (spec.base_frame, "head_camera_optical_frame")))  # fmt: skip
    assert held is not None and stands is not None
    assert 0.01 < np.linalg.norm(held[:3, 3]) < 0.5 < np.linalg.norm(stands[:3, 3])

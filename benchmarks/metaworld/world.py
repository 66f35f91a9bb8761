"""Meta-World as a ``vla_mbpo.sim.world.World``: with both cameras, or with the corner camera only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metaworld.arm import GOAL, MEASURED, OBJECT, OTHER, Arm
from benchmarks.metaworld.camera import Camera
from benchmarks.metaworld.expert import Expert
from benchmarks.metaworld.frames import REPLAN_ROWS
from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.sim.world import World


def truth(arm: Arm) -> dict[str, NDArray[Any]]:
    """Object, goal and tool (9,) [m]; places (x, y) of object, second object and goal (6,) [m]. For training only."""
    thing, other, goal, tool = (arm.seen[part] for part in (OBJECT, OTHER, GOAL, MEASURED))
    points = np.concatenate([thing, goal, tool[:3]])
    return {"points": points, "things": np.concatenate([thing[:2], other[:2], goal[:2]])}


def one_camera(arm: Arm, size: int) -> Camera:
    """The corner camera; the wrist view is black."""
    return Camera(arm, size, wrist=False)


# The tool may be far behind its set point: pressed against something that is how it is made to push. Set points are no
# servo's: rows are followed as they are. Smoothed as for an arm, demonstrations whose rows are driven again fail. What
# stands in place of velocities (Arm.state) says nothing of motion.
_MANNER: dict[str, Any] = {
    "waits": True,
    "replan_rows": REPLAN_ROWS,
    "gate": GateConfig(servo_lag=0.5, join_slack=0.2, reference_slack=0.5),
    "driver": DriverConfig(max_lag=1.0, max_gap=0.5, start_speed=10.0, settle=0.02, look_ahead=0.0),
}
TWO_CAMERAS = World(Arm, Camera, Expert, truth, name="metaworld, two cameras", **_MANNER)
ONE_CAMERA = World(Arm, one_camera, Expert, truth, name="metaworld, one camera", **_MANNER)

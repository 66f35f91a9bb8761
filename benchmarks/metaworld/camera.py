"""Two views of a Meta-World scene: the corner camera as LeRobot places it, and the one at the gripper."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from benchmarks.metaworld.arm import Arm

HEAD, WRIST = "corner2", "gripperPOV"
HEAD_PLACE = (0.75, 0.075, 0.7)  # m; the camera hangs upside down, so that its picture is turned
MAX_GEOMETRIES = 1000


class Camera:
    """Interface of ``vla_mbpo.sim.cameras.SceneCamera``. Holds a GL context: use it from the thread that made it."""

    def __init__(self, arm: Arm, size: int, wrist: bool = True) -> None:
        """``size``: edge of the square image [px]. ``wrist`` False: one camera; the wrist view is black."""
        model = arm.model
        model.cam_pos[model.camera(HEAD).id] = HEAD_PLACE
        mujoco.mj_camlight(model, arm.data)
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        self._data, self._size, self._wrist = arm.data, size, wrist
        self._renderer = mujoco.Renderer(model, size, size, MAX_GEOMETRIES)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def render(self, _qpos: Any, *views: str) -> list[NDArray[np.uint8]]:
        """Images (size, size, 3) RGB of ``head`` and ``wrist`` as the scene is now: Meta-World places goals itself."""
        return [self._head() if view == "head" else self._hand() for view in views]

    def _head(self) -> NDArray[np.uint8]:
        self._renderer.update_scene(self._data, HEAD)
        return np.ascontiguousarray(self._renderer.render()[::-1, ::-1])

    def _hand(self) -> NDArray[np.uint8]:
        if not self._wrist:
            return np.zeros((self._size, self._size, 3), np.uint8)
        self._renderer.update_scene(self._data, WRIST)
        return self._renderer.render()

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()

"""Camera images of a scene."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.sim.scene import Scene

MAX_GEOMETRIES = 200  # a few times what a scene has


class SceneCamera:
    """Renders one or both cameras of a scene. Holds a GL context: use it from the thread that made it."""

    def __init__(self, scene: Scene, size: int) -> None:
        """``size``: edge of the square image [px]."""
        self._data = mujoco.MjData(scene.model)
        # Small buffers, no map for shadows that are not drawn: a camera node takes 20 ms for another scene, not 80.
        scene.model.vis.global_.offwidth = scene.model.vis.global_.offheight = size
        scene.model.vis.quality.offsamples = scene.model.vis.quality.shadowsize = 0
        scene.model.vis.map.znear = 0.01
        self._model = scene.model
        self._renderer = mujoco.Renderer(scene.model, size, size, MAX_GEOMETRIES, mujoco.mjtFontScale.mjFONTSCALE_50)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    @classmethod
    def build(cls, spec: RobotSpec, task: str, seed: int, size: int) -> "SceneCamera":
        """Camera for the scene of (task, seed), built from scratch (for another process than the simulator's)."""
        return cls(Scene.build(spec, task, seed), size)

    def render(self, qpos: NDArray[np.float64], *cameras: str) -> list[NDArray[np.uint8]]:
        """Images (size, size, 3) RGB of the named cameras at ``qpos``."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        images = []
        for camera in cameras:
            self._renderer.update_scene(self._data, camera)
            images.append(self._renderer.render())
        return images

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()

"""A simulated camera: renders the state that the simulator publishes."""

import threading

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.cameras.source import Frame, Opened
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.sim.cameras import SceneCamera

NOISE_POOL = 1 << 20  # values of sensor noise drawn once, at least; every frame starts at another place


class SimSource:
    """Draws the latest scene state with sensor noise of at most one grey level.

    The noise makes consecutive frames differ as a real sensor's do, so that a frozen image can be told from a scene at
    rest. ``feed`` may be called from any thread; the others belong to one, which holds the GL context.
    """

    def __init__(self, spec: RobotSpec, view: str, size: int, noise_seed: int = 0) -> None:
        """``view``: head or wrist; ``size``: edge of the square image [px]."""
        self._spec, self._view, self._size = spec, view, size
        self._rng = np.random.default_rng(noise_seed)
        self._camera: SceneCamera | None = None
        self._scene: tuple[str, int] | None = None
        self._ready = threading.Condition()
        self._next: tuple[str, int, int, NDArray[np.float64]] | None = None

    def feed(self, task: str, seed: int, stamp: int, qpos: NDArray[np.float64]) -> None:
        """Offer a scene state; only the latest one is drawn."""
        with self._ready:
            self._next = (task, seed, stamp, qpos)
            self._ready.notify()

    def open(self) -> Opened:
        """Draw the noise, and see that this machine can render. The renderer is made with the first scene state.

        Raises:
            ConfigError: it cannot.
        """
        try:
            mujoco.GLContext(self._size, self._size).free()
        except Exception as error:
            advice = "no OpenGL without a display: install libegl1 and libgl1-mesa-dri"
            raise ConfigError("camera", self._view, f"{advice} ({error})") from None
        pool = max(NOISE_POOL, 2 * 3 * self._size**2)  # twice what a frame needs
        self._noise = self._rng.integers(-1, 2, pool, dtype=np.int16)
        return Opened(self._size, self._size)

    def read(self, timeout: float) -> Frame | None:
        """Draw the next scene state."""
        with self._ready:
            if self._next is None:
                self._ready.wait(timeout)
            state, self._next = self._next, None
        if state is None:
            return None
        task, seed, stamp, qpos = state
        image = self._camera_for(task, seed).render(qpos, self._view)[0].astype(np.int16)
        start = int(self._rng.integers(0, len(self._noise) - image.size))
        image += self._noise[start : start + image.size].reshape(image.shape)
        return Frame(stamp, np.clip(image, 0, 255).astype(np.uint8))

    def close(self) -> None:
        """Free the renderer."""
        if self._camera is not None:
            self._camera.close()
        self._camera, self._scene = None, None

    def report(self) -> dict[str, object]:
        """Nothing: all there is to know is in the scene state."""
        return {}

    def _camera_for(self, task: str, seed: int) -> SceneCamera:
        if self._camera is None or (task, seed) != self._scene:
            self.close()
            self._camera = SceneCamera.build(self._spec, task, seed, self._size)
            self._scene = (task, seed)
        return self._camera

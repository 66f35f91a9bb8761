"""Node `camera`: publishes one camera's images and calibration. Two instances, head_camera and wrist_camera."""

import queue
import sys
import threading
from collections.abc import Sequence

from sensor_msgs.msg import CameraInfo
from vla_mbpo_msgs.msg import SceneState

from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.cameras.source import Frame, Source
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.paths import share_dir

SILENCE = 0.5  # s without a frame before the node warns
OPEN_TIME = 10.0  # s for a camera to open
SOURCES = {"sim": SimSource}
_TOPICS = {"head": (qos.HEAD_IMAGE, qos.HEAD_INFO), "wrist": (qos.WRIST_IMAGE, qos.WRIST_INFO)}


class CameraNode(ManagedNode):
    """Reads a source in a thread of its own and publishes what it delivers."""

    PARAMETERS = (
        Param("view", "head", "which camera this is", choices=("head", "wrist")),
        Param("source", "sim", "where images come from", choices=tuple(SOURCES)),
        Param("size", 96, "edge of the square image, px", 32, 1024),
        Param("calibration", "", "camera_info YAML file; empty: calibration/<view>_camera.yaml"),
        Param("noise_seed", 0, "seed of the simulated sensor noise", 0, 2**31),
    )

    def configure(self) -> None:
        """Check the calibration against the image size."""
        view, size = self.parameters["view"], self.parameters["size"]
        default = share_dir() / "calibration" / f"{view}_camera.yaml"
        calibration = Calibration.load(type(default)(self.parameters["calibration"] or default))
        calibration.require_size(size, size)
        self._frame_id = f"{view}_camera_optical_frame"
        self._info_message = _camera_info(calibration, self._frame_id)
        self._source = SOURCES[self.parameters["source"]](self.spec(), view, size, self.parameters["noise_seed"])
        image, info = _TOPICS[view]
        self._image, self._info = self.publisher(image), self.publisher(info)
        self._running = threading.Event()
        self._frames, self._last = 0, 0

    def activate(self) -> None:
        """Open the camera and start reading."""
        self._running.set()
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._capture, args=(self._source, opened), name="capture", daemon=True)
        self._thread.start()
        try:
            fault = opened.get(timeout=OPEN_TIME)
        except queue.Empty:
            raise TimeoutError(f"the camera did not open within {OPEN_TIME:.0f} s") from None
        if fault is not None:
            raise fault
        self.subscribe(qos.SCENE_STATE, self._on_scene)

    def deactivate(self) -> None:
        """Stop reading."""
        self._running.clear()
        self._thread.join(1.0)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"frames": self._frames}

    def warning(self) -> str:
        """What is wrong at the moment."""
        silent = (self.now() - self._last) / 1e9
        return "" if silent < SILENCE else f"no frame for {silent:.1f} s" if self._last else "no frame yet"

    def _on_scene(self, message: SceneState) -> None:
        stamp = convert.to_ns(message.header.stamp)
        self._source.feed(message.task, message.seed, stamp, convert.from_doubles(message.qpos))

    def _capture(self, source: Source, opened: "queue.SimpleQueue[Exception | None]") -> None:
        """Own thread. A camera that fails later ends the process: starting it again is the supervisor's business."""
        try:
            source.open()
        except Exception as error:
            opened.put(error)
            return
        opened.put(None)
        try:
            while self._running.is_set():
                frame = source.read(0.2)
                if frame is not None:
                    self._publish(frame)
        except Exception as error:
            self.leave(f"camera failed: {type(error).__name__}: {error}")
        finally:
            source.close()

    def _publish(self, frame: Frame) -> None:
        message = convert.to_image(frame.image, frame.stamp, self._frame_id)
        self._image.publish(message)
        self._info_message.header.stamp = message.header.stamp
        self._info.publish(self._info_message)
        self._frames, self._last = self._frames + 1, frame.stamp


def _camera_info(calibration: Calibration, frame_id: str) -> CameraInfo:
    message = CameraInfo(
        height=calibration.height,
        width=calibration.width,
        distortion_model=calibration.model,
        d=list(calibration.d),
        k=list(calibration.k),
        r=list(calibration.r),
        p=list(calibration.p),
    )
    message.header.frame_id = frame_id
    return message


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: CameraNode("head_camera"), argv)


if __name__ == "__main__":
    sys.exit(main())

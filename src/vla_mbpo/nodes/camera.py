"""Node `camera`: publishes one camera's images and calibration. Two instances, head_camera and wrist_camera."""

import queue
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sensor_msgs.msg import CameraInfo
from vla_mbpo_msgs.msg import SceneState

from vla_mbpo.calibrate.sealed import MAX_AGE
from vla_mbpo.cameras import fit
from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.returning import Returning
from vla_mbpo.cameras.sim import SimSource
from vla_mbpo.cameras.source import Frame, Opened
from vla_mbpo.cameras.stamps import Rising
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.nodes.sources import DEVICES, IMAGE, PARAMETERS, SOURCES
from vla_mbpo.paths import share_dir

SILENCE = 0.5  # s without a frame before the node warns
OPEN_TIME = 10.0  # s for a camera to open
_INFO = {"head": qos.HEAD_INFO, "wrist": qos.WRIST_INFO}
_DEPTH = {"head": qos.HEAD_DEPTH, "wrist": qos.WRIST_DEPTH}


class CameraNode(ManagedNode):
    """Reads a source in a thread of its own and publishes what it delivers."""

    PARAMETERS = (
        Param("view", "head", "which camera this is", choices=("head", "wrist")),
        Param("size", 96, "edge of the square image, px", 32, 1024),
        Param(
            "calibration",
            "",
            "camera_info YAML file; empty: calibration/<view>_camera.yaml if simulated, of a device "
            "calibration/<robot>/<view>_camera.yaml if there, else what the device says of itself",
        ),
        Param("calibration_max_age", MAX_AGE, "age above which that file is refused, days; 0: none", 0.0, 3650.0),
        *PARAMETERS,
    )
    _thread: threading.Thread | None = None  # the capture thread of the last activation

    def configure(self) -> None:
        """Read the calibration; a simulated camera's must have the image's size."""
        view, size, simulated = self.parameters["view"], self.parameters["size"], self.parameters["source"] == "sim"
        self._robot = self.spec().name  # by which `vla-mbpo calibrate` names it, too; its folder may have another
        self._file = self._calibration_file()
        self._calibration = None if self._file is None else Calibration.load(self._file)
        if self._calibration is not None and simulated:
            self._calibration.require_size(size, size)
        self._frame_id = f"{view}_camera_optical_frame"
        source = SOURCES[self.parameters["source"]](self)
        self._scene_source = source if isinstance(source, SimSource) else None
        self._source = Returning(source)
        self._image, self._info = self.publisher(IMAGE[view]), self.publisher(_INFO[view])
        self._depth = self.publisher(_DEPTH[view]) if self.parameters["realsense.depth"] else None
        self._frames, self._last, self._rising = 0, 0, Rising(self.now)

    def activate(self) -> None:
        """Open the camera and start reading."""
        if self._thread is not None:
            self._thread.join(0.2)
            if self._thread.is_alive():
                raise RuntimeError("the camera's driver still holds the last activation: try again, or end the process")
        self._running = threading.Event()  # of this activation alone: a thread that outlives it is not revived
        self._running.set()
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        arguments = self._running, self._source, opened
        self._thread = threading.Thread(target=self._capture, args=arguments, name="capture", daemon=True)
        self._thread.start()
        try:
            fault = opened.get(timeout=OPEN_TIME)
            if fault is not None:
                raise fault
            if self._scene_source is not None:
                self.subscribe(qos.SCENE_STATE, partial(self._on_scene, self._scene_source))
        except Exception as error:
            self._running.clear()
            if isinstance(error, queue.Empty):
                raise TimeoutError(f"the camera did not open within {OPEN_TIME:g} s") from None
            raise

    def deactivate(self) -> None:
        """Stop reading."""
        self._running.clear()
        if self._thread is not None:
            self._thread.join(1.0)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        known = self._calibration or self._own
        calibration = "none" if known is None else self._file or "the camera's own"
        values = {"frames": self._frames, "frames_refused": self._rising.refused, "calibration": calibration}
        return {**values, **self._source.report()}

    def warning(self) -> str:
        """What is wrong at the moment."""
        silent = (self.now() - self._last) / 1e9
        text = "" if silent < SILENCE else f"no frame for {silent:.1f} s" if self._last else "no frame yet"
        return "; ".join(part for part in (self._source.lost, text) if part)

    def _on_scene(self, source: SimSource, message: SceneState) -> None:
        stamp = convert.to_ns(message.header.stamp)
        source.feed(message.task, message.seed, stamp, convert.from_doubles(message.qpos))

    def _capture(
        self, running: threading.Event, source: Returning, opened: "queue.SimpleQueue[Exception | None]"
    ) -> None:
        """Own thread. A camera that fails later ends the process: starting it again is the supervisor's business."""
        try:
            found = source.open()
            if not running.is_set():  # it took too long: the activation has failed
                raise TimeoutError
            self._info_message = self._make_info(found)
        except Exception as error:
            source.close()
            opened.put(error)
            return
        opened.put(None)
        try:
            while running.is_set():
                frame = source.read(0.2)
                if frame is None or not running.is_set():
                    continue
                # The simulator's time may stand still while the scene is changed.
                if self._scene_source is not None or self._rising.accept(frame.stamp):
                    self._publish(fit.square(frame, self.parameters["size"]))
        except Exception as error:
            if running.is_set():
                self.leave(f"camera failed: {type(error).__name__}: {error}")
        finally:
            source.close()

    def _publish(self, frame: Frame) -> None:
        message = convert.to_image(frame.image, frame.stamp, self._frame_id)
        self._image.publish(message)
        self._info_message.header.stamp = message.header.stamp
        self._info.publish(self._info_message)
        if self._depth is not None and frame.depth is not None:
            self._depth.publish(convert.to_depth(frame.depth, frame.stamp, self._frame_id))
        self._frames, self._last = self._frames + 1, frame.stamp

    def _calibration_file(self) -> Path | None:
        """Where a person's calibration is; None: there is none."""
        given, source = self.parameters["calibration"], self.parameters["source"]
        name, folder = f"{self.parameters['view']}_camera.yaml", share_dir() / "calibration"
        if given or source == "sim":
            return Path(given).expanduser() if given else folder / name
        found = folder / self._robot / name  # where `vla-mbpo calibrate camera` writes it
        return found if source in DEVICES and found.is_file() else None

    def _make_info(self, opened: Opened) -> CameraInfo:
        """The calibration, of the file or of the camera itself, for the images that are published."""
        size, self._own = self.parameters["size"], opened.calibration
        if self._calibration is not None:
            p = self.parameters
            device = p["source"] in DEVICES and not p["realsense.file"]
            serial = opened.serial if device else None  # of files nobody knows
            self._calibration.require_for(serial, self._robot, p["calibration_max_age"])
        known = self._calibration or self._own
        found = fit.unknown(size, size) if known is None else fit.fitted(known, opened.width, opened.height, size)
        return _camera_info(found, self._frame_id)


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

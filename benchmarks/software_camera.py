"""librealsense's software device as a camera that can be unplugged, and the camera node in one process with it.

``python -m benchmarks.software_camera LOG [--clock=device] --ros-args ...`` is the node `camera`, and obeys lines on
stdin: ``unplug``, ``plug``, ``freeze`` (the camera stays and delivers nothing), ``thaw``, ``log`` (writes LOG: when
each frame was exposed, per plug, and whether it was delivered).
"""

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.cameras import librealsense

WIDTH, HEIGHT, FPS = 640, 480, 30
SERIAL = "031422250347"
BITS, BLOCK = 16, 28  # a frame's number as black and white squares in the middle of the picture, px at full size
DRIFT = 80e-6  # of the device's clock
LEAST_DELAY, MORE_DELAY = 0.006, 0.003  # s from exposure to arrival: least, and mean of what comes on top


def draw(number: int, noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture that carries its number and otherwise shows noise."""
    image, scale = np.roll(noise, 7 * number, axis=1), noise.shape[0] / HEIGHT
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        top, left, edge = (round(scale * v) for v in (180 + row * BLOCK, 264 + column * BLOCK, BLOCK))
        image[top : top + edge, left : left + edge] = 255 if number >> bit & 1 else 0
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number in a square cut of any size of such a picture."""
    scale, found = image.shape[0] / HEIGHT, 0
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        y, x = scale * (180 + (row + 0.5) * BLOCK), scale * (264 - (WIDTH - HEIGHT) / 2 + (column + 0.5) * BLOCK)
        found |= int(image[round(y - 0.5), round(x - 0.5), 1] > 127) << bit
    return found


class SoftwareCamera:
    """A camera of librealsense that exists in this process only.

    Attributes:
        frames: of each plug: number, time of exposure (host's clock [ns]), whether it was delivered.
    """

    def __init__(self, clock: str = "host", serial: str = SERIAL, depth: bool = False, small: bool = False) -> None:
        """A camera that is not plugged in.

        Args:
            clock: stamps on the ``host``'s or on the ``device``'s own clock, which begins anew at each plug.
            serial: its number.
            depth: with a depth sensor.
            small: pictures of a quarter of the width.
        """
        self._rs, self._clock, self._serial, self._with_depth = librealsense.library(), clock, serial, depth
        self.context = librealsense.new_context()
        # The context keeps weak references only, and forgets a software device at once; who holds the list that an
        # added device is announced with keeps it there, and takes it away by letting go.
        self._held: list[Any] = []
        self.context.set_devices_changed_callback(lambda event: self._held.append(event.get_new_devices()))
        self.width, self.height = (WIDTH // 4, HEIGHT // 4) if small else (WIDTH, HEIGHT)
        self._noise = np.random.default_rng(0).integers(0, 256, (self.height, self.width, 3), dtype=np.uint8)
        self._random = random.Random(0)
        self.frames: list[list[tuple[int, int, bool]]] = []
        self.number = 0
        self._frozen, self._blind, self._thread, self._stop = False, False, None, threading.Event()

    def plug(self) -> None:
        """Add the device to the context, and deliver frames while it streams."""
        self.device, self._began = self._rs.software_device(), time.time_ns()
        for info, text in (("serial_number", self._serial), ("name", "Software RealSense")):
            self.device.register_info(getattr(self._rs.camera_info, info), text)
        self._colour = self._stream("RGB Camera", "color", "rgb8", 3, 1)
        option = self._rs.option_range()
        option.min, option.max, option.default, option.step = 1.0, 10000.0, 156.0, 1.0
        self._colour[0].add_option(self._rs.option.exposure, option, True)
        if self._with_depth:
            self._depth = self._stream("Stereo Module", "depth", "z16", 2, 2)
            same = self._rs.extrinsics()
            same.rotation, same.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
            self._depth[1].register_extrinsics_to(self._colour[1], same)
            self.device.create_matcher(self._rs.matchers.dlr_c)
        self.device.add_to(self.context)
        self.frames.append([])
        self._stop.clear()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Stop at once, and take the device away."""
        self._stop.set()
        self._thread.join()
        self._held.clear()

    def freeze(self, frozen: bool, depth_goes_on: bool = False) -> None:
        """Whether the device is there and delivers nothing, or nothing but depth."""
        self._frozen, self._blind = frozen and not depth_goes_on, frozen and depth_goes_on

    def _stream(self, name: str, kind: str, encoding: str, size: int, uid: int) -> tuple[Any, Any, int]:
        rs = self._rs
        sensor, stream, lens = self.device.add_sensor(name), rs.video_stream(), rs.intrinsics()
        lens.width, lens.height = self.width, self.height
        lens.ppx, lens.ppy, lens.fx, lens.fy = 318.5, 241.0, 611.0, 612.0
        lens.model, lens.coeffs = rs.distortion.brown_conrady, [0.1, -0.2, 0.001, 0.002, 0.05]
        stream.type, stream.fmt = getattr(rs.stream, kind), getattr(rs.format, encoding)
        stream.index, stream.uid, stream.width, stream.height = 0, uid, self.width, self.height
        stream.fps, stream.bpp, stream.intrinsics = FPS, size, lens
        if kind == "depth":
            lens.coeffs = [0.0] * 5
            sensor.add_read_only_option(rs.option.depth_units, 0.0005)
        return sensor, sensor.add_video_stream(stream), size

    def _feed(self) -> None:
        exposed, frames = self._began, self.frames[-1]
        while not self._stop.is_set():
            exposed += round(1e9 / FPS)
            delay = LEAST_DELAY + min(self._random.expovariate(1 / MORE_DELAY), 0.02)
            picture = draw(self.number, self._noise)
            time.sleep(max(0.0, exposed / 1e9 + delay - time.time()))
            if self._stop.is_set():
                return
            if not self._frozen:
                own = 1e-6 * (exposed - self._began) * (1 + DRIFT) + 1000.0
                stamp = 1e-6 * exposed if self._clock == "host" else own
                if self._with_depth:
                    self._send(self._depth, np.full((self.height, self.width), 2000 + self.number, np.uint16), stamp)
                if not self._blind:
                    self._send(self._colour, picture, stamp)
            frames.append((self.number, exposed, not (self._frozen or self._blind)))
            self.number = (self.number + 1) % (1 << BITS)

    def _send(self, stream: tuple[Any, Any, int], pixels: NDArray, stamp: float) -> None:
        rs, (sensor, profile, size) = self._rs, stream
        frame, domains = rs.software_video_frame(), rs.timestamp_domain
        frame.pixels, frame.stride, frame.bpp, frame.timestamp = pixels, self.width * size, size, stamp
        frame.domain = domains.global_time if self._clock == "host" else domains.hardware_clock
        frame.frame_number, frame.profile, frame.depth_units = self.number, profile.as_video_stream_profile(), 0.0005
        sensor.on_video_frame(frame)


def main() -> None:
    """The camera node, with a software device in place of what is on the USB."""
    from vla_mbpo.nodes import camera as node

    log, clock = Path(sys.argv[1]), "device" if "--clock=device" in sys.argv else "host"
    camera = SoftwareCamera(clock)
    camera.plug()
    librealsense.new_context = lambda: camera.context
    orders = {
        "unplug": camera.unplug,
        "plug": camera.plug,
        "freeze": lambda: camera.freeze(True),
        "thaw": lambda: camera.freeze(False),
        "log": lambda: log.write_text(json.dumps(camera.frames)),
    }

    def obey() -> None:
        for line in sys.stdin:
            orders[line.strip()]()
            print("done", line.strip(), time.time_ns(), flush=True)

    threading.Thread(target=obey, daemon=True).start()
    node.main([sys.argv[0], *sys.argv[sys.argv.index("--ros-args") :]])


if __name__ == "__main__":
    main()

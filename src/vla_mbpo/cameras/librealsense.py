"""What the RealSense source asks of librealsense: a context, a sensor, its exposure and its intrinsics."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.core.errors import ConfigError, require

INSTALL = "install it: pip install -e '.[realsense]' and the system's libusb-1.0-0"


def new_context() -> Any:
    """A context that looks for USB devices and at no network."""
    return library().context('{"dds": {"enabled": false}}')


def millimetres(frame: Any) -> NDArray[np.uint16] | None:
    """Copy of a depth frame; None without one."""
    if not frame:
        return None
    depth, unit = np.array(frame.get_data()), 1e3 * frame.get_units()
    return depth if abs(unit - 1) < 1e-6 else np.minimum(np.rint(depth * unit), 65535).astype(np.uint16)


def library() -> Any:
    """pyrealsense2.

    Its wheel exports the symbols of a Fast DDS of its own. Of two copies the one that is loaded first serves both, in
    part: after pyrealsense2, ROS's crashed when the process ended. So ROS's is loaded first.

    Raises:
        ConfigError: it or libusb is missing, which only who reads a RealSense needs.
    """
    with suppress(ImportError):
        from rclpy.utilities import get_rmw_implementation_identifier

        get_rmw_implementation_identifier()
    try:
        import pyrealsense2
    except ImportError as error:
        raise ConfigError("source", "realsense", f"pyrealsense2 cannot be used ({error}); {INSTALL}") from None
    return pyrealsense2


def colour_sensor(device: Any) -> Any:
    """The sensor that has the colour stream. Raises OSError for a camera without."""
    rs = library()
    for sensor in device.query_sensors():
        if any(p.stream_type() == rs.stream.color for p in sensor.get_stream_profiles()):
            return sensor
    raise OSError("the camera has no colour sensor")


def prepare(sensor: Any, exposure: int) -> None:
    """Have it stamp frames on the host's clock if it can, and set its exposure [us], 0: automatic.

    Colour sensors of their own count in units of 100 us, those that are the depth sensor, too, of 1 us.

    Raises:
        ConfigError: it has no such exposure.
    """
    option = library().option
    if sensor.supports(option.global_time_enabled):
        sensor.set_option(option.global_time_enabled, 1.0)
    if not exposure:
        if sensor.supports(option.enable_auto_exposure):
            sensor.set_option(option.enable_auto_exposure, 1.0)
        return
    require(sensor.supports(option.exposure), "realsense.exposure", exposure, "0: this camera's cannot be set")
    unit = 1 if sensor.is_depth_sensor() else 100
    limits = sensor.get_option_range(option.exposure)
    low, high = round(limits.min * unit), round(limits.max * unit)
    valid = f"expected 0 (automatic) or {low} to {high} us"
    require(low <= exposure <= high, "realsense.exposure", exposure, valid)
    if sensor.supports(option.enable_auto_exposure):
        sensor.set_option(option.enable_auto_exposure, 0.0)
    step = max(limits.step, 1e-9)
    sensor.set_option(option.exposure, limits.min + step * round((exposure / unit - limits.min) / step))


def factory(stream: Any, serial: str) -> Calibration:
    """The intrinsics that the camera was delivered with."""
    found = stream.get_intrinsics()
    k = (found.fx, 0.0, found.ppx, 0.0, found.fy, found.ppy, 0.0, 0.0, 1.0)
    p = (found.fx, 0.0, found.ppx, 0.0, 0.0, found.fy, found.ppy, 0.0, 0.0, 0.0, 1.0, 0.0)
    turn = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return Calibration(serial, found.width, found.height, "plumb_bob", tuple(found.coeffs), k, turn, p)


def one_line(error: Exception) -> str:
    """What librealsense said."""
    return " ".join(str(error).split())

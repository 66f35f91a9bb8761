"""The camera node in a process with librealsense's software device, and a subscriber here that counts."""

import subprocess
import sys

import pytest

from benchmarks.realsense import measure
from vla_mbpo.cameras import librealsense
from vla_mbpo.core.errors import ConfigError

try:
    librealsense.library()
except ConfigError as missing:
    pytest.skip(f"{missing}: `make setup-dev`", allow_module_level=True)

BESIDE_ROS = """
from vla_mbpo.cameras.librealsense import library
library()
import rclpy
rclpy.init()
rclpy.create_node("beside").destroy_node()
rclpy.try_shutdown()
"""


def check(found, unplugs):
    """What must hold of every run, however busy the machine is."""
    assert found["frames_repeated"] == found["frames_unknown"] == 0, found
    # A process that gets no time misses frames, which librealsense drops; it knows of each.
    assert found["frames_lost"] <= found["frames_lost_before_the_node"] < found["frames_sent"] / 2, found
    assert found["stamps_not_rising"] == found["infos_without_image"] == 0, found
    assert found["frames_received"] + found["frames_lost"] == found["frames_sent"] > 0, found
    assert found["frames_cut_off_by_the_unplug"] <= 10, found
    # No later than the limit and what the subscriber needs to look again.
    limit = found["freshness_limit_ms"]
    assert len(found["freshness_trips_ms_after_last_stamp"]) == unplugs, found
    assert all(trip and limit <= trip < limit + 200 for trip in found["freshness_trips_ms_after_last_stamp"]), found
    assert all(after is not None for after in found["diagnostics_say_lost_after_s"]), found
    assert len(found["first_image_after_plug_s"]) == unplugs, found
    assert found["state_at_end"] == "active" and found["exit_code"] == 0, found


def test_an_unplug_loses_no_frame_unseen_and_repeats_none(ros_domain):
    found = measure("host", seconds=5.6, away=2.0, unplugs=1, parameters={})
    check(found, 1)
    assert found["stamp_minus_exposure_ms"]["max"] < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["host", "device"])
def test_a_minute_of_frames_with_two_unplugs(ros_domain, clock):
    found = measure(clock, seconds=60.0, away=4.0, unplugs=2, parameters={})
    check(found, 2)
    assert found["frames_sent"] > 20 * (60 - 2 * 4)


def test_librealsense_and_the_middleware_end_in_one_process():
    """Each has a Fast DDS of its own; in the other order of loading the process crashed when it ended."""
    assert subprocess.run([sys.executable, "-c", BESIDE_ROS], timeout=60).returncode == 0

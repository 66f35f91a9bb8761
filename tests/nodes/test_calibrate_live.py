"""`vla-mbpo calibrate hand-eye --live`: pictures and joint states from topics, until there are enough."""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import finish, spawn
from sensor_msgs.msg import JointState

sys.path.append(str(Path(__file__).parents[1] / "calibrate"))

from projected import BOARD, CAMERA, MIDDLE, PINHOLE, picture, seen  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from vla_mbpo.calibrate.placed import Placed  # noqa: E402
from vla_mbpo.calibrate.poses import ToolPoses, apart, inverse, pose  # noqa: E402
from vla_mbpo.calibrate.sealed import Provenance  # noqa: E402
from vla_mbpo.cameras.calibration import Calibration  # noqa: E402
from vla_mbpo.nodes import convert, qos  # noqa: E402


def postures(spec, n):
    """Joint positions in which the camera on the tool sees the board, and where the board is then."""
    kinematics, rng = ToolPoses(spec), np.random.default_rng(0)
    before = pose(Rotation.identity(), np.array([0, 0, 0.4])) @ pose(Rotation.identity(), -MIDDLE)
    target = kinematics.at(spec.home) @ CAMERA @ before
    while n:
        joints = spec.home + rng.uniform(-0.5, 0.5, len(spec.joints))
        at = inverse(kinematics.at(joints) @ CAMERA) @ target
        if at[2, 2] > 0.6 and at[2, 3] > 0.2 and len(seen(at, PINHOLE).ids) > 0.7 * len(BOARD.corners):
            n -= 1
            yield joints, at


def joint_states(spec, joints, stamp):
    message = JointState(name=[*spec.joints, *spec.gripper_joints])
    message.header.stamp = convert.to_time(stamp)
    message.position = [*joints, *(0.0 for _ in spec.gripper_joints)]
    message.velocity = [0.0] * len(message.position)
    return message


@pytest.mark.slow  # pictures are held still until they are taken: on a busy machine that is not in time
def test_an_arm_that_is_moved_from_view_to_view_is_calibrated(graph, spec, tmp_path):
    k = tuple(PINHOLE.matrix.ravel().tolist())
    made = Provenance("test", "0815", "sim_panda", 20, 0.1, "test")
    p = tuple(np.c_[PINHOLE.matrix, np.zeros(3)].ravel().tolist())
    lens = Calibration("wrist_camera", 640, 480, "plumb_bob", (0.0,) * 5, k, tuple(np.eye(3).ravel().tolist()), p, made)
    lens.write(tmp_path / "wrist_camera.yaml")
    camera = ["--camera", "wrist_camera", "--serial", "0815", "--robot", "sim_panda", "--eye", "in-hand"]
    files = [
        "--pictures",
        tmp_path / "views",
        "--intrinsics",
        tmp_path / "wrist_camera.yaml",
        "--out",
        tmp_path / "out",
    ]
    process = spawn("vla_mbpo.cli", "calibrate", "hand-eye", "--live", *camera, *map(str, files))
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(iter(process.stdout.readline, "")), daemon=True).start()
    try:
        graph.start()
        send_image, send_joints = graph.talk(qos.WRIST_IMAGE), graph.talk(qos.JOINT_STATES)
        for joints, at in postures(spec, 40):
            taken, until = len(list((tmp_path / "views").glob("*.png"))), time.monotonic() + 10
            image = np.repeat(picture(at)[:, :, None], 3, axis=2)
            while len(list((tmp_path / "views").glob("*.png"))) == taken and process.poll() is None:
                assert time.monotonic() < until, said
                stamp = time.time_ns()
                send_joints(joint_states(spec, joints, stamp))
                send_image(convert.to_image(image, stamp, "wrist_camera_optical_frame"))
                graph.spin(0.04)
            if process.poll() is not None:
                break
        assert process.wait(5) == 0, said
    finally:
        if process.poll() is None:
            finish(process)
    turn, distance = apart(Placed.load(tmp_path / "out").camera, CAMERA)
    assert turn < 0.3 and distance < 0.002
    views = json.loads((tmp_path / "views" / "poses.json").read_text())["views"]
    assert 12 <= len(views) == len(list((tmp_path / "views").glob("*.png")))
    text = "".join(said)
    assert "missing: tool turned about" in text and "; enough" in text

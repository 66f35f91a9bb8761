import numpy as np
from sensor_msgs.msg import Image, JointState

from vla_mbpo.core.observation import FreshnessLimits
from vla_mbpo.core.state import RobotState
from vla_mbpo.nodes.convert import JointStateReader, JointStateWriter, to_image, to_ns, to_time
from vla_mbpo.nodes.frames import FramePairs, ObservationBuilder

MS = 1_000_000


def image(ms):
    message = Image()
    message.header.stamp = to_time(ms * MS)
    return message


def pairs(arrivals, max_skew=25):
    taken = FramePairs(max_skew * MS)
    made = [taken.add(view, image(ms)) for view, ms in arrivals]
    return [(to_ns(p[0].header.stamp) // MS, to_ns(p[1].header.stamp) // MS) for p in made if p]


def test_each_pair_comes_once_in_order_head_wrist():
    assert pairs([("head", 0), ("wrist", 0), ("wrist", 50), ("head", 50)]) == [(0, 0), (50, 50)]


def test_a_late_image_finds_its_own_partner():
    assert pairs([("head", 0), ("head", 50), ("wrist", 0), ("wrist", 50)]) == [(0, 0), (50, 50)]
    assert pairs([("head", 50), ("wrist", 0), ("wrist", 50)]) == [(50, 50)]


def test_images_too_far_apart_are_no_pair():
    assert pairs([("head", 0), ("wrist", 30)]) == []
    assert pairs([("head", 0), ("wrist", 20)]) == [(0, 20)]


def test_what_a_grippers_own_node_says_is_passed_over(spec):
    """Incident (review): where it was nearer to the picture than the arm's, the look was refused, most of the time."""
    builder = ObservationBuilder(JointStateReader(spec), FreshnessLimits(), {"head": "", "wrist": ""})
    arm = JointStateWriter(spec).write(RobotState(90 * MS, spec.home, np.zeros(len(spec.joints)), 0.04))
    other = JointState(name=["another_joint"], position=[0.0], velocity=[0.0])
    other.header.stamp = to_time(100 * MS)
    for message in (arm, other):
        builder.add_joints(message)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    for view, picture in zip(("head", "wrist"), pixels, strict=True):
        builder.add_image(view, to_image(picture, 100 * MS, view))
    np.testing.assert_array_equal(builder.observation(110 * MS).joints, spec.home)

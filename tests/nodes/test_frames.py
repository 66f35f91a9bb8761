from sensor_msgs.msg import Image

from vla_mbpo.nodes.convert import to_ns, to_time
from vla_mbpo.nodes.frames import FramePairs

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

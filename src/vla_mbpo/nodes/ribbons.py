"""Candidates as ribbons of the tool's way, for RViz: the colour is the verdict, the preferred one is bold."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.vetting import Judgement

# Told apart by people who do not see red and green, too: the preferred one is also wider, refused ones fainter.
COLOURS = {
    Verdict.SAFE: (0.0, 0.62, 0.45),
    Verdict.RISKY: (0.95, 0.77, 0.0),
    Verdict.UNSAFE: (0.84, 0.15, 0.12),
    Verdict.UNKNOWN: (0.55, 0.55, 0.55),
}
BOLD, THIN = 0.008, 0.003  # m


def ribbons(judgement: Judgement, stamp: Time, frame: str) -> MarkerArray:
    """One line strip per candidate; those of the set before are deleted."""
    order = judgement.choice.order
    markers = [Marker(action=Marker.DELETEALL)]
    for k, (way, verdict) in enumerate(zip(judgement.ways, judgement.choice.verdicts, strict=True)):
        red, green, blue = COLOURS[verdict]
        line = Marker(ns="candidates", id=k, type=Marker.LINE_STRIP, action=Marker.ADD)
        line.pose.orientation.w = 1.0
        line.scale.x = BOLD if order and order[0] == k else THIN
        line.color = ColorRGBA(r=red, g=green, b=blue, a=1.0 if k in order else 0.4)
        line.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in way]
        markers.append(line)
    for marker in markers:
        marker.header.stamp, marker.header.frame_id = stamp, frame
    return MarkerArray(markers=markers)

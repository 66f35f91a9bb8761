"""What RViz shows of imagination and the failure detector: candidates as ribbons of the tool's way, risk as words."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray
from vla_mbpo_msgs.msg import FailureRisk

from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.vetting import Judgement
from vla_mbpo.nodes.convert import alarm_text

# Told apart by people who do not see red and green, too: the preferred one is also wider, refused ones fainter.
COLOURS = {
    Verdict.SAFE: (0.0, 0.62, 0.45),
    Verdict.RISKY: (0.95, 0.77, 0.0),
    Verdict.UNSAFE: (0.84, 0.15, 0.12),
    Verdict.UNKNOWN: (0.55, 0.55, 0.55),
}
BOLD, THIN = 0.008, 0.003  # m
ABOVE, LETTER = 1.0, 0.05  # m


def ribbons(judgement: Judgement, stamp: Time, frame: str) -> MarkerArray:
    """One line strip per candidate, coloured by its verdict, the preferred one bold; those of the set before go."""
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


def risk_words(risk: FailureRisk, frame: str) -> MarkerArray:
    """One line of text above the arm's base ``frame``: what the vote has reached and its band."""
    words, verdict = f"risk {risk.score:.1f} of {risk.band:.1f}", Verdict.SAFE
    if not risk.known:
        words, verdict = f"risk unknown: {risk.reason}", Verdict.UNKNOWN
    elif risk.alarm:
        words, verdict = f"ALARM: {alarm_text(risk)}", Verdict.UNSAFE
    red, green, blue = COLOURS[verdict]
    text = Marker(ns="risk", type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, text=words)
    text.header.stamp, text.header.frame_id = risk.header.stamp, frame
    text.pose.position.z, text.pose.orientation.w, text.scale.z = ABOVE, 1.0, LETTER
    text.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return MarkerArray(markers=[text])

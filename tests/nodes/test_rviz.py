"""The RViz configuration shows what is published, with a quality of service that hears it."""

import pytest
import yaml
from rclpy.qos import DurabilityPolicy as Durability
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from vla_mbpo.nodes import qos
from vla_mbpo.paths import share_dir

TOPICS = {f"/{topic.name.lstrip('/')}": topic for topic in vars(qos).values() if isinstance(topic, qos.Topic)}
SHOWN = yaml.safe_load((share_dir() / "config/rviz/vla_mbpo.rviz").read_text())["Visualization Manager"]["Displays"]
DISPLAYS = {display["Topic"]["Value"]: display for display in SHOWN if "Topic" in display}


def test_what_is_published_for_people_is_shown():
    drawn = (qos.MARKERS, qos.VOLUMES, qos.OVERLAY, qos.DREAM, qos.HEAD_IMAGE, qos.WRIST_IMAGE)
    assert set(DISPLAYS) == {f"/{topic.name.lstrip('/')}" for topic in drawn}
    assert {"RobotModel", "TF", "Grid"} <= {display["Class"].split("/")[1] for display in SHOWN}


@pytest.mark.parametrize("name", DISPLAYS)
def test_a_display_hears_its_topic(name):
    display, topic = DISPLAYS[name], TOPICS[name]
    assert display["Class"].split("/")[1] == topic.type.__name__
    wanted = display["Topic"]
    reader = QoSProfile(
        depth=wanted["Depth"],
        reliability=ReliabilityPolicy[wanted["Reliability Policy"].upper().replace(" ", "_")],
        durability=Durability[wanted["Durability Policy"].upper().replace(" ", "_")],
    )
    compatible, why = qos_check_compatible(topic.qos, reader)
    assert compatible != QoSCompatibility.ERROR, why
    latched = topic.qos.durability == Durability.TRANSIENT_LOCAL
    assert latched == (reader.durability == Durability.TRANSIENT_LOCAL)  # else who joins late sees nothing

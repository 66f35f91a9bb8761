"""The RViz configuration shows what the nodes publish."""

import yaml

from vla_mbpo.nodes import qos
from vla_mbpo.paths import share_dir

PUBLISHED = {topic.name for topic in vars(qos).values() if isinstance(topic, qos.Topic)}
KINDS = {"Image": "Image", "MarkerArray": "MarkerArray"}  # display -> type of its topic


def test_every_display_listens_to_a_topic_of_its_type():
    shown = yaml.safe_load((share_dir() / "config/rviz/vla_mbpo.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"]: display["Class"].split("/")[1] for display in shown if "Topic" in display}
    assert set(topics) <= PUBLISHED and len(topics) == 5
    types = {topic.name: topic.type.__name__ for topic in vars(qos).values() if isinstance(topic, qos.Topic)}
    assert all(types[name] == KINDS[kind] for name, kind in topics.items())

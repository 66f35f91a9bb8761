"""/tf of the markers node against the arm's own kinematics, and the message's type against tf2's."""

import numpy as np
import pytest

pytest.importorskip("tf2_msgs", reason="needs tf2_msgs: `scripts/setup.sh dev`")

from scipy.spatial.transform import Rotation  # noqa: E402  (after the check that tf2_msgs is there)
from tf2_msgs.msg import TFMessage  # noqa: E402

from vla_mbpo.core.robot import RobotSpec  # noqa: E402
from vla_mbpo.core.state import RobotState  # noqa: E402
from vla_mbpo.gate.kinematics import Kinematics  # noqa: E402
from vla_mbpo.monitor.transforms import Tree  # noqa: E402
from vla_mbpo.nodes import convert, qos  # noqa: E402
from vla_mbpo.nodes.markers import MarkersNode  # noqa: E402
from vla_mbpo.paths import robot_dir  # noqa: E402

ROBOTS = ("sim_panda", "franka_fr3", "ur5e", "xarm7")


def tool(transforms, spec):
    """Place (3,) of the tool in the base frame, along the chain of (parent, child, translation, quaternion)."""
    by_child = {child: (parent, move, turn) for parent, child, move, turn in transforms}
    place, link = np.zeros(3), spec.tool_link
    while link != spec.base_frame:
        parent, move, turn = by_child[link]
        place, link = Rotation.from_quat(turn).apply(place) + move, parent
    return place


@pytest.mark.parametrize("name", ROBOTS)
def test_the_chain_ends_where_the_kinematics_have_the_tool(name):
    spec = RobotSpec.load(robot_dir(name))
    tree, kinematics, rng = Tree(spec.urdf), Kinematics(spec), np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(np.maximum(spec.lower, -3), np.minimum(spec.upper, 3))
        found = [*tree.fixed, *tree.moved(dict(zip(spec.joints, joints, strict=True)))]
        kinematics.place(joints[None])
        ours = tool([(t.parent, t.child, t.translation, t.rotation) for t in found], spec)
        np.testing.assert_allclose(ours, kinematics.tool[0], atol=1e-6)


def test_rviz_gets_what_robot_state_publisher_would_send(graph, spec):
    moving, fixed, model = qos.transforms()
    node = graph.start(lambda: MarkersNode("markers"), parameters={"markers.transforms": True})
    graph.listen(moving, fixed, model)
    graph.activate()
    say = graph.talk(qos.JOINT_STATES)
    writer = convert.JointStateWriter(spec)
    state = RobotState(1_234_000_000, spec.home, np.zeros(len(spec.joints)), 0.04)

    def heard():
        say(writer.write(state))
        return all(graph.heard[topic.name] for topic in (moving, fixed, model))

    graph.until(heard)
    assert graph.heard[model.name][-1].data == spec.urdf.read_text()
    sent = [one for topic in (moving, fixed) for one in graph.heard[topic.name][-1].transforms]
    frames = {one.child_frame_id for one in sent}
    assert {"panda_finger1", "panda_finger2", "wrist_camera_optical_frame", spec.tool_link} <= frames
    assert all(one.header.stamp == convert.to_time(state.stamp) for one in graph.heard[moving.name][-1].transforms)
    chain = []
    for one in sent:
        move, turn = one.transform.translation, one.transform.rotation
        parent = one.header.frame_id
        chain.append((parent, one.child_frame_id, (move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w)))
    kinematics = Kinematics(spec)
    kinematics.place(spec.home[None])
    np.testing.assert_allclose(tool(chain, spec), kinematics.tool[0], atol=1e-6)
    count = len(graph.heard[moving.name])
    graph.spin(0.3)
    assert len(graph.heard[moving.name]) <= count + 1 and node is not None  # nothing new, nothing said


@pytest.mark.parametrize("name", ["ur5e", "xarm7", "franka_fr3"])
def test_fingers_are_placed_by_the_joint_of_the_gripper_s_driver(graph, name):
    """Incident: /joint_states of a UR5e and an xArm has the driver's joint, and the fingers had no transform."""
    spec, (moving, _, _) = RobotSpec.load(robot_dir(name)), qos.transforms()
    parameters = {"markers.transforms": True, "markers.robot": name}
    graph.start(lambda: MarkersNode("markers"), parameters=parameters)
    graph.listen(moving)
    graph.activate()
    say, writer = graph.talk(qos.JOINT_STATES), convert.JointStateWriter(spec)
    state = RobotState(1_234_000_000, spec.home, np.zeros(len(spec.joints)), 0.06)

    def heard():
        say(writer.write(state))
        return bool(graph.heard[moving.name])

    graph.until(heard)
    found = {one.child_frame_id: one for one in graph.heard[moving.name][-1].transforms}
    places = [(t.child, t.translation) for t in Tree(spec.urdf).moved(dict.fromkeys(spec.gripper_joints, 0.03))]
    assert len(places) == 2
    for child, place in places:
        move = found[child].transform.translation
        np.testing.assert_allclose((move.x, move.y, move.z), place, atol=1e-9)


def test_the_message_has_the_type_hash_of_ros(graph):
    graph.start()
    graph.probe.create_publisher(TFMessage, "/tf", 10)
    (about,) = graph.probe.get_publishers_info_by_topic("/tf")
    assert str(about.topic_type_hash).endswith("e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087")

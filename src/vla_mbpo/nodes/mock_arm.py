"""Node `mock_arm`: ros2_control's topics without hardware, for a dry run of a real arm's stack."""

from collections.abc import Callable, Sequence

from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vla_mbpo.core.controllers import FILE, check_controllers
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.paths import robot_dir
from vla_mbpo.sim.mock import MockArm

HARDWARE = "controller_manager"  # node of ros2_control; where it is, a command may reach an arm with power
LOOK = 0.5  # s between two looks for it


class MockArmNode(ManagedNode):
    """Says where the commands have the arm be. It ends, and with it the dry run, where hardware is in the graph."""

    PARAMETERS = (Param("rate", 100.0, "joint states per second", 25.0, 500.0),)

    def configure(self) -> None:
        """Check the controllers' names against the robot's."""
        self._spec = self.spec()
        check_controllers(robot_dir(self.parameters["robot"]) / FILE, self._spec)
        self._writer = convert.JointStateWriter(self._spec)
        self._joint_states = self.publisher(qos.JOINT_STATES)
        self._taken = self._rejected = 0

    def activate(self) -> None:
        """Stand at home and listen."""
        self._refuse_hardware(self._hardware())
        self._arm = MockArm(self._spec, self.now())
        self.subscribe(qos.TRAJECTORY, self._on_trajectory)
        self.subscribe(qos.GRIPPER, lambda message: self._on_gripper(message, float))
        driver = self._spec.gripper_driver
        if driver is not None:
            self.subscribe(qos.GRIPPER_POSITION, lambda message: self._on_gripper(message, driver.opening))
        self.every(1.0 / self.parameters["rate"], self._tick)
        self.every(LOOK, self._look)

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {
            "trajectories_taken": self._taken,
            "trajectories_rejected": self._rejected,
            "steps_held_back": self._arm.held_back,
        }

    def _tick(self) -> None:
        self._arm.advance(self.now())
        self._joint_states.publish(self._writer.write(self._arm.state()))

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._arm.advance(self.now())
        try:
            why = self._arm.accept(convert.from_trajectory(message))
        except ValueError as error:
            why = f"points: {error}"
        if why:
            self._rejected += 1
            self.get_logger().warning(f"trajectory rejected: {why}", throttle_duration_sec=1.0)
        else:
            self._taken += 1

    def _on_gripper(self, message: Float64MultiArray, to_opening: Callable[[float], float]) -> None:
        try:
            self._arm.command_gripper(to_opening(message.data[0]))
        except (ValueError, IndexError) as error:
            self.get_logger().warning(f"gripper command rejected: {error}", throttle_duration_sec=1.0)

    def _hardware(self) -> str:
        """Who else says where the arm is, or an empty string."""
        own = self.get_name()
        if HARDWARE in self.get_node_names():
            return f"node {HARDWARE}"
        said = self.get_publishers_info_by_topic(qos.JOINT_STATES.name)
        others = {info.node_name for info in said} - {own, "_NODE_NAME_UNKNOWN_"}
        return f"{sorted(others)[0]} on {qos.JOINT_STATES.name}" if others else ""

    def _look(self) -> None:
        self._refuse_hardware(self._hardware())

    def _refuse_hardware(self, found: str) -> None:
        if found:
            self.leave(f"hardware in the graph ({found}): a dry run would move it; choose another ROS_DOMAIN_ID")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: MockArmNode("mock_arm"), argv)

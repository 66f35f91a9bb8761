"""Node `sim`: the simulated robot in real time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory
from vla_mbpo_msgs.msg import SceneState, TaskStatus
from vla_mbpo_msgs.srv import ResetScene

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.nodes import convert, qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene

TICK = 10_000_000  # ns; joint states and /clock
SCENE_TICKS, STATUS_TICKS = 5, 10  # scene state at 20 Hz, task status at 10 Hz
REST = 0.3  # s without an active trajectory before a reset: whoever drives the arm has fallen silent
# Ticks that are made up for one by one. If more are lost, all are simulated without messages: whoever lives on /clock
# would take a burst of them for time that passes ten times too fast, and every command would come too late for it.
CATCH_UP = 20


class SimNode(ManagedNode):
    """Physics in its own thread, paced by monotonic time; messages to it pass through a queue."""

    PARAMETERS = (
        Param("task", "red_bin", "task whose scene is built"),
        Param("seed", 0, "scene seed", 0, 2**53),
        Param("real_time_factor", 1.0, "simulated s per s; unless 1, others need use_sim_time", 0.1, 4.0),
    )

    def configure(self) -> None:
        """Build the scene."""
        self._spec = self.spec()
        self._scene = Scene.build(self._spec, self.parameters["task"], self.parameters["seed"])
        self._writer = convert.JointStateWriter(self._spec)
        self._joint_states = self.publisher(qos.JOINT_STATES)
        self._scene_state = self.publisher(qos.SCENE_STATE)
        self._clock_out = self.publisher(qos.CLOCK)
        self._status = self.publisher(qos.TASK_STATUS)
        self._clock_message = Clock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._overruns = self._rejected = 0
        self._running = threading.Event()

    def activate(self) -> None:
        """Start physics and listen."""
        self._robot = SimRobot(self._spec, self._scene, time.time_ns())
        self._running.set()
        self._thread = threading.Thread(target=self._loop, name="physics", daemon=True)
        self._thread.start()
        self.subscribe(qos.TRAJECTORY, self._on_trajectory)
        self.subscribe(qos.GRIPPER, self._on_gripper)
        self.serve(ResetScene, qos.RESET_SCENE, self._on_reset)

    def deactivate(self) -> None:
        """Stop physics."""
        self._running.clear()
        self._thread.join()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {
            "task": self._scene.task.name,
            "seed": self._scene.seed,
            "overruns": self._overruns,
            "rejected_trajectories": self._rejected,
        }

    def _on_trajectory(self, message: JointTrajectory) -> None:
        def take() -> None:
            try:
                why = self._robot.accept(convert.from_trajectory(message))
            except ValueError as error:
                why = f"points: {error}"
            if why:
                self._rejected += 1
                self.get_logger().warning(f"trajectory rejected: {why}", throttle_duration_sec=1.0)

        self._inbox.append(take)

    def _on_gripper(self, message: Float64MultiArray) -> None:
        def take() -> None:
            try:
                self._robot.command_gripper(message.data[0])
            except (ValueError, IndexError) as error:
                self.get_logger().warning(f"gripper command rejected: {error}", throttle_duration_sec=1.0)

        self._inbox.append(take)

    def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        try:
            scene = Scene.build(self._spec, request.task or self._scene.task.name, request.seed)
        except ConfigError as error:
            response.message = str(error)
            return response
        rest = self._robot.rest
        if rest < REST:  # the next trajectory would pull the arm from its start back to where it was
            response.message = f"reset: not while the arm is driven; {REST - rest:.2f} s of rest are missing"
            return response

        def take() -> None:
            self._scene, self._robot = scene, SimRobot(self._spec, scene, self._robot.time)

        self._inbox.append(take)
        response.success, response.instruction = True, scene.instruction
        return response

    def _loop(self) -> None:
        factor = self.parameters["real_time_factor"]
        begin, ticks = time.monotonic_ns(), 0
        while self._running.is_set():
            ticks += 1
            ahead = ticks * TICK / factor - (time.monotonic_ns() - begin)
            if ahead > 0:
                time.sleep(ahead / 1e9)
            lost = int(-ahead * factor / TICK)
            if lost > CATCH_UP:
                self._overruns += 1
                ticks += lost
                self._robot.advance(self._robot.time + lost * TICK)
            while self._inbox:
                self._inbox.popleft()()
            self._robot.advance(self._robot.time + TICK)
            self._publish(ticks)

    def _publish(self, ticks: int) -> None:
        state = self._robot.state()
        self._joint_states.publish(self._writer.write(state))
        stamp = self._writer.message.header.stamp
        self._clock_message.clock = stamp
        self._clock_out.publish(self._clock_message)
        if ticks % SCENE_TICKS == 0:
            message = SceneState(task=self._scene.task.name, seed=self._scene.seed)
            message.header.stamp = stamp
            message.qpos = convert.to_doubles(self._robot.qpos)
            self._scene_state.publish(message)
        if ticks % STATUS_TICKS == 0:
            status = self._robot.status()
            report = TaskStatus(
                task=status.task,
                instruction=status.instruction,
                seed=status.seed,
                success=bool(status.success),
                failed=bool(status.failed),
                progress=float(status.progress),
                cost_events=list(status.cost_events),
                elapsed=status.elapsed,
            )
            report.header.stamp = stamp
            self._status.publish(report)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: SimNode("sim"), argv)

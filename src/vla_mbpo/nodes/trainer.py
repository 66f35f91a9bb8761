"""Node `trainer`: a training loop beside the stack, set aside while the arm moves."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger
from vla_mbpo_msgs.msg import GateState, TrainingProgress

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.nodes.parameters import Param
from vla_mbpo.nodes.process import run
from vla_mbpo.training.job import TrainingJob

PERIOD = 0.5  # s
STATES = {name: getattr(TrainingProgress, name.upper()) for name in
          ("idle", "running", "paused", "live", "refused", "failed", "stopped")}  # fmt: skip


class TrainerNode(ManagedNode):
    """Starts, sets aside and ends one child process; it computes nothing itself. Deactivation ends the child."""

    PARAMETERS = (
        Param("out", "", "folder of the loop; relative to where the stack was started"),
        Param("arguments", "", "further options of `vla-mbpo train loop`"),
        Param("while_moving", "pause", "what the loop does while the arm may move", choices=("pause", "run")),
        Param("autostart", False, "begin as soon as the node is active"),
    )

    def configure(self) -> None:
        """Check the parameters."""
        out, arguments = self.parameters["out"], self.parameters["arguments"]
        require(bool(out), "trainer.out", out, "expected a folder")
        try:
            words = shlex.split(arguments)
        except ValueError as error:
            raise ConfigError("trainer.arguments", arguments, f"expected options as in a shell: {error}") from None
        self._job = TrainingJob(Path(out).expanduser(), words)
        self._out = self.publisher(qos.TRAINING)

    def activate(self) -> None:
        """Take requests."""
        self._moving, self._asked_to_wait, self._said = True, False, ""  # until the gate says otherwise, it may move
        self._progress: dict[str, Any] = self._job.poll()
        self.subscribe(qos.GATE_STATE, self._on_gate)
        self.serve(Trigger, qos.TRAINER_START, self._answer(self._start))
        self.serve(Trigger, qos.TRAINER_PAUSE, self._answer(self._pause))
        self.serve(Trigger, qos.TRAINER_STOP, self._answer(self._job.stop))
        self.every(PERIOD, self._step)
        if self.parameters["autostart"]:
            self._start()

    def deactivate(self) -> None:
        """End the child; what it has checkpointed stays."""
        self._job.stop()

    def report(self) -> dict[str, object]:
        """Values for /diagnostics."""
        return {"state": self._job.state, **{key: self._progress[key] for key in ("stage", "number", "of")}}

    def warning(self) -> str:
        """What is wrong at the moment."""
        return str(self._progress["reason"])

    def _answer(self, action: Callable[[], None]) -> Callable[[Any, Any], Any]:
        def answer(_request: Any, response: Any) -> Any:
            try:
                action()
                response.success, response.message = True, self._job.state
            except (ConfigError, OSError) as error:
                response.success, response.message = False, str(error)
            self._step()
            return response

        return answer

    def _start(self) -> None:
        self._job.start()
        self._asked_to_wait = False
        self._make_way()

    def _pause(self) -> None:
        if not (self._asked_to_wait or self._job.state == "paused"):
            self._job.pause()
        self._asked_to_wait = True

    def _on_gate(self, message: GateState) -> None:
        self._moving = message.mode in (GateState.AUTONOMOUS, GateState.TELEOP)
        self._make_way()

    def _make_way(self) -> None:
        """Two heavy jobs at once would make chunks late: the loop waits while the arm may move."""
        wait = self._moving and self.parameters["while_moving"] == "pause"
        if wait and self._job.state == "running":
            self._job.pause()
        elif not wait and self._job.state == "paused" and not self._asked_to_wait:
            self._job.start()

    def _step(self) -> None:
        self._progress = self._job.poll()
        message = TrainingProgress(state=STATES[self._job.state], stage=self._progress["stage"])
        message.header.stamp = self.get_clock().now().to_msg()
        message.number, message.of = int(self._progress["number"]), int(self._progress["of"])
        losses = dict(self._progress["losses"])
        message.step = int(losses.pop("step", 0))
        message.loss_names, message.losses = list(losses), [float(value) for value in losses.values()]
        message.message = self._progress["reason"]
        self._out.publish(message)
        if self._job.state != self._said:
            self._said = self._job.state
            self.get_logger().info(f"training: {self._said} {self._progress['stage']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: TrainerNode("trainer"), argv)

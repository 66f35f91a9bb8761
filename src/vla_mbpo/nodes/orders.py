"""The page's orders, as the stack's own services and actions; what is refused there is refused here."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from std_msgs.msg import Bool
from vla_mbpo_msgs.action import ExecuteTask
from vla_mbpo_msgs.srv import GateCommand, Record, ResetScene

from vla_mbpo.core.errors import require
from vla_mbpo.monitor.panels import OUTCOMES
from vla_mbpo.monitor.server import Order
from vla_mbpo.monitor.stops import Stops
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.base import ManagedNode
from vla_mbpo.sim.tasks import TASKS

ANSWER_TIME = 5.0  # s for a service's answer
REFUSAL_TIME = 1.0  # s within which a goal that is refused mostly is; later it is said in the panel
RESET_TIME = 1.5  # s for letting go of the stop and for the gate's cool-down
FORGOTTEN = "; from before this page was started: if no button is pressed, press this page's stop, then reset"
POLL = 0.02  # s
LONGEST = 200  # letters of an instruction
SEEDS = 2**63  # of scenes, below


class Orders:
    """Made at configure in the executor's thread; all orders are called from threads of the page and wait there.

    The stop is not among them: it waits for nothing.

    Attributes:
        said: what came of the last task, in words.
    """

    def __init__(self, node: ManagedNode) -> None:
        self.said, self._node, self._stops = "", node, Stops()
        self._estop = node.publisher(qos.ESTOP)
        self._engage = self._client(GateCommand, qos.ENGAGE)
        self._reset = self._client(GateCommand, qos.RESET_GATE)
        self._scene = self._client(ResetScene, qos.RESET_SCENE)
        self._cancel = self._client(CancelGoal, f"{qos.EXECUTE_TASK}/_action/cancel_goal")
        self._records = {what: self._client(Record, f"{qos.RECORDER}/{what}") for what in ("start", "stop", "save")}
        self._task: Any = ActionClient(node, ExecuteTask, qos.EXECUTE_TASK)
        node.on_cleanup_do(self._task.destroy)

    def stop(self) -> None:
        """Press the e-stop. Any thread."""
        self._stops.send()
        self._estop.publish(Bool(data=True))

    def listen(self) -> None:
        """Hear the e-stops of others, in whatever quality of service; at activate."""
        self._node.subscribe(qos.ESTOPS[1], lambda message: self._stops.hear(message.data))
        self._node.every(0.1, self._stops.tick)

    def table(self) -> dict[str, Order]:
        """Every order by the path that it is posted to."""
        records = {f"record/stop/{word}": ("stop", word) for word in ("succeeded", "failed", "aborted")}
        records |= {"record/start": ("start", ""), "record/save": ("save", "")}
        orders = {"engage": self._on_engage, "reset": self._on_reset, "task": self._on_task, "end": self._on_end}
        orders["scene"] = self._on_scene
        return orders | {path: partial(self._on_record, *words) for path, words in records.items()}

    def _client(self, kind: Any, name: str) -> Any:
        made: Any = self._node.create_client(kind, name)
        self._node.on_cleanup_do(partial(self._node.destroy_client, made))
        return made

    def _on_engage(self, body: dict[str, Any]) -> tuple[bool, str]:
        """``epoch``: of the gate when the person confirmed. What has changed since then makes the gate refuse."""
        answer = self._call(self._engage, GateCommand.Request(epoch=_whole(body, "epoch")), ANSWER_TIME)
        return (False, "the gate does not answer") if answer is None else (answer.success, answer.message)

    def _on_reset(self, body: dict[str, Any]) -> tuple[bool, str]:
        """Let go of the page's own stop, then reset the latch; another button that is pressed stays pressed."""
        request, until = GateCommand.Request(epoch=_whole(body, "epoch")), time.monotonic() + RESET_TIME
        if self._stops.mine:
            self._estop.publish(Bool(data=False))
        while True:
            answer = self._call(self._reset, request, ANSWER_TIME)
            if answer is None:
                return False, "the gate does not answer"
            if answer.success or answer.epoch != request.epoch or time.monotonic() > until:
                asked_before = f"topic {qos.ESTOP.name}" in answer.message and self._stops.nobodys
                return answer.success, answer.message + (FORGOTTEN if asked_before else "")
            time.sleep(0.1)

    def _on_task(self, body: dict[str, Any]) -> tuple[bool, str]:
        """``instruction``: any words; the task node refuses what the policy does not know."""
        text = body.get("instruction")
        words = " ".join(text.split()) if isinstance(text, str) else ""
        require(1 <= len(words) <= LONGEST, "instruction", text, f"expected 1 to {LONGEST} letters")
        if not self._task.server_is_ready():
            return False, "the task node does not answer"
        result: list[Any] = []
        sent = self._task.send_goal_async(ExecuteTask.Goal(instruction=words))
        sent.add_done_callback(lambda future: self._on_goal(words, future, result.append))
        _wait(lambda: bool(result), REFUSAL_TIME)
        if result and result[0].outcome == ExecuteTask.Result.REFUSED:
            return False, f"refused: {result[0].message}"
        self.said = self.said if result else f"{words}: sent"
        return True, self.said

    def _on_goal(self, words: str, sent: Any, note: Callable[[Any], None]) -> None:
        """In the executor's thread: the goal was taken, or was not."""
        handle = sent.result()
        if not handle.accepted:
            self._on_result(words, note, ExecuteTask.Result(outcome=ExecuteTask.Result.REFUSED, message="not taken"))
            return
        handle.get_result_async().add_done_callback(lambda done: self._on_result(words, note, done.result().result))

    def _on_result(self, words: str, note: Callable[[Any], None], result: Any) -> None:
        self.said = f"{words}: {OUTCOMES[result.outcome]}: {result.message}"
        note(result)

    def _on_end(self, _: dict[str, Any]) -> tuple[bool, str]:
        """Cancel whatever attempt is running, whoever began it."""
        answer = self._call(self._cancel, CancelGoal.Request(), ANSWER_TIME)
        if answer is None:
            return False, "the task node does not answer"
        return (True, "the attempt ends") if answer.goals_canceling else (False, "no attempt is running")

    def _on_scene(self, body: dict[str, Any]) -> tuple[bool, str]:
        """``task`` and ``seed``: of the simulated scene."""
        task, seed = body.get("task"), _whole(body, "seed")
        require(isinstance(task, str) and task in TASKS, "task", task, f"choose one of: {', '.join(TASKS)}")
        answer = self._call(self._scene, ResetScene.Request(task=task, seed=seed), ANSWER_TIME)
        if answer is None:
            return False, "there is no simulated scene, or it does not answer"
        return answer.success, answer.message or ("the scene is at its start" if answer.success else "refused")

    def _on_record(self, what: str, outcome: str, _: dict[str, Any]) -> tuple[bool, str]:
        client = self._records[what]
        if not client.service_is_ready():
            return False, "there is no recorder: `vla-mbpo up --record FOLDER`"
        answer = self._call(client, Record.Request(outcome=outcome), ANSWER_TIME)
        if answer is None:
            return False, "the recorder does not answer"
        return answer.success, f"{answer.message} {answer.episode}".strip()

    def _call(self, client: Any, request: Any, seconds: float) -> Any:
        """The answer, or None if there is none in time. The executor's thread receives it meanwhile."""
        if not client.service_is_ready():
            return None
        asked = client.call_async(request)
        if _wait(asked.done, seconds):
            return asked.result()
        client.remove_pending_request(asked)
        return None


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(POLL)
    return True


def _whole(body: dict[str, Any], name: str) -> int:
    """A whole number of the order's; ConfigError if it is none."""
    value = body.get(name)
    ok = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < SEEDS
    require(ok, name, value, "expected a whole number, 0 or more")
    assert isinstance(value, int)
    return value

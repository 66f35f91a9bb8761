"""A page whose stack is played: every panel filled, as messages with the same fields would fill it."""

from types import SimpleNamespace as Message

import numpy as np

from vla_mbpo.monitor import panels
from vla_mbpo.monitor.picture import compose, enlarge
from vla_mbpo.monitor.risk import RiskHistory
from vla_mbpo.monitor.server import PageServer
from vla_mbpo.monitor.verdicts import Verdicts
from vla_mbpo.sim.tasks import TASKS

ORDERS = ("engage", "reset", "task", "end", "scene", "record/start")


class PlayedPage:
    """Keeps what is ordered.

    Attributes:
        stops: how often the stop was pressed.
        orders: (name, body) of each order.
    """

    def __init__(self, port: int = 0, stop_port: int = 0) -> None:
        self.stops, self.orders = 0, []
        table = {name: lambda body, name=name: self._order(name, body) for name in ORDERS}
        tasks = {name: task.instruction for name, task in TASKS.items()}
        self.server = PageServer(port, self._stop, table, stop_port=stop_port, tasks=tasks)
        self.gate(1, 3, "engaged")
        self._fill()

    def _stop(self) -> None:
        self.stops += 1
        self.gate(3, 4, "topic /estop")

    def _order(self, name: str, body: dict) -> tuple[bool, str]:
        self.orders.append((name, body))
        return True, f"{name} done"

    def gate(self, mode: int, epoch: int, reason: str) -> None:
        """Its state."""
        state = Message(mode=mode, epoch=epoch, reason=reason, vetting_off=["failure_detector"], intervention=False)
        self.server.tell("gate", panels.gate(state))

    def _fill(self) -> None:
        server, verdicts, risk, nodes = self.server, Verdicts(), RiskHistory(), panels.Nodes()
        for i in range(40):
            fields = {"known": i % 9 != 4, "score": 0.3 * i, "band": 7.0, "alarm": i > 30, "reason": "late"}
            stamp = Message(stamp=Message(sec=i, nanosec=0))
            risk.add(Message(header=stamp, detectors=["mlp", "clock"], votes=[True, False], **fields))
        chances = {"success_probability": 0.5, "cost_probability": 0.1, "reasons": ["it may cost"]}
        verdicts.imagined(
            Message(chunk_set_id=5, candidates=[Message(candidate=k, verdict=k % 4, **chances) for k in range(8)])
        )
        unknown = Message(verdict=0)
        for k, reasons in ((1, [Message(text="joint_velocity: row 3 joint2 2.3 (limit 2.1)")]), (2, [])):
            decision = {"candidate": k, "accepted": not reasons, "reasons": reasons, "imagination": unknown}
            verdicts.decided(Message(chunk_set_id=5, **decision))
        value = Message(key="inference_p95_ms", value="31.0")
        said = [Message(name="policy", level=b"\0", message="active", values=[value])]
        said += [Message(name="joy", level=b"\1", message="no gamepad", values=[])]
        nodes.add(Message(status=said), 0.0)
        rows = Message(rows_executed=9, rows_dropped_late=1, rows_executed_late=0)
        progress = {"state": 1, "stage": "dream", "number": 3, "of": 6, "step": 40, "message": ""}
        told = {
            "task": panels.task("press the button", None, None, ""),
            "verdicts": verdicts.panel(),
            "risk": risk.panel(),
            "rates": nodes.panel(0.5, rows),
            "recording": panels.recording({"episode": "e1"}, 0, ""),
            "release": panels.release(None, "sft_full 0123"),
            "training": panels.training(Message(**progress, loss_names=["kl"], losses=[0.1])),
            "scene": panels.scene(Message(task="button", seed=3)),
            "dream": panels.dream("dream 5", 1.0),
        }
        for panel, content in told.items():
            server.tell(panel, content)
        image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
        server.dream(enlarge(np.tile(image, (2, 2, 1))))
        server.show(compose(image, image, image))

    def close(self) -> None:
        """Free the ports."""
        self.server.close()

"""Measures the running stack from the stamps of its messages. A node beside the stack; it needs rclpy."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from vla_mbpo_msgs.msg import GateDecision

from vla_mbpo.core.verdict import NOT_DECIDED
from vla_mbpo.nodes import qos
from vla_mbpo.nodes.convert import to_ns

CAMERA_PERIOD, CONTROL_PERIOD = 50_000_000, 20_000_000  # ns
LATE = ("no verdict", "did not answer in time", "still busy")  # what gate or imagination say of a late verdict
GAP = 1.5  # periods; a longer gap between stamps is at least one missed cycle


class Probe:
    """Latency by stage, cycles and rows, from stamps. One thread: the executor's that spins ``node``.

    Stages of a chunk set, all from the observation's stamp [ms]: ``policy`` (set published), ``verdict`` (where
    imagination is on), ``gate`` (first approval), ``first_row`` (first commitment that reaches to the end of the set's
    rows: the driver has them and has published the trajectory of that tick just before).
    """

    def __init__(self, node: Node) -> None:
        self.latency_ms: dict[str, list[float]] = defaultdict(list)
        self.inference_ms: list[float] = []
        self.camera = {name: Cycle(CAMERA_PERIOD) for name in ("head", "wrist")}
        self.control = Cycle(CONTROL_PERIOD)
        self.rows = {"executed": 0, "dropped_late": 0, "executed_late": 0}
        self.chunk_sets = 0
        self.decisions: list[GateDecision] = []
        self._waiting: dict[int, int] = {}  # observation stamp -> due time of the last row [ns]
        listen = (
            (qos.ACTION_CHUNKS, self._on_set),
            (qos.VERDICT, self._on_verdict),
            (qos.APPROVED_CHUNK, self._on_approved),
            (qos.GATE_DECISION, self.decisions.append),
            (qos.COMMITMENT, self._on_commitment),
            (qos.HEAD_INFO, lambda m: self.camera["head"].add(to_ns(m.header.stamp))),
            (qos.WRIST_INFO, lambda m: self.camera["wrist"].add(to_ns(m.header.stamp))),
        )
        for topic, callback in listen:
            node.create_subscription(topic.type, topic.name, callback, 50 if topic.qos.depth > 1 else topic.qos)

    def _on_set(self, message: Any) -> None:
        self.chunk_sets += 1
        stamp = to_ns(message.observation_stamp)
        self.latency_ms["policy"].append((to_ns(message.header.stamp) - stamp) / 1e6)
        self.inference_ms.append((message.inference_time.sec * 10**9 + message.inference_time.nanosec) / 1e6)

    def _on_verdict(self, message: Any) -> None:
        stamp = to_ns(message.observation_stamp)
        self.latency_ms["verdict"].append((to_ns(message.header.stamp) - stamp) / 1e6)

    def verdicts(self) -> dict[str, float]:
        """Chunk sets decided on, and those that were held because imagination was late, or did not know otherwise."""
        by_set = {d.chunk_set_id: d for d in self.decisions if d.accepted or d.reasons[0].check not in NOT_DECIDED}
        said = [d.reasons[0].text for d in by_set.values() if not d.accepted and d.reasons[0].check == "imagination"]
        unknown = [text for text in said if text.startswith("UNKNOWN")]
        late = sum(any(words in text for words in LATE) for text in unknown)
        share = round(late / max(1, len(by_set)), 5)
        return {"sets": len(by_set), "late": late, "share_late": share, "unknown_otherwise": len(unknown) - late}

    def _on_approved(self, message: Any) -> None:
        stamp = to_ns(message.observation_stamp)
        self.latency_ms["gate"].append((to_ns(message.header.stamp) - stamp) / 1e6)
        period = message.row_period.sec * 10**9 + message.row_period.nanosec
        self._waiting[stamp] = stamp + message.horizon * period

    def _on_commitment(self, message: Any) -> None:
        now = to_ns(message.header.stamp)
        self.control.add(now)
        self.rows = {
            "executed": message.rows_executed,
            "dropped_late": message.rows_dropped_late,
            "executed_late": message.rows_executed_late,
        }
        for stamp in [s for s, due in self._waiting.items() if due < now]:
            del self._waiting[stamp]  # the driver did not take it
        if not message.positions:
            return
        period = message.row_period.sec * 10**9 + message.row_period.nanosec
        count = len(message.positions) // len(message.joint_names)
        reach = to_ns(message.first_due) + (count - 1) * period
        for stamp in [s for s, due in self._waiting.items() if reach >= due - period // 2]:
            self.latency_ms["first_row"].append((now - stamp) / 1e6)
            del self._waiting[stamp]

    def missed(self) -> dict[str, dict[str, float]]:
        """Expected and missed cycles, per camera and for the driver."""
        cycles = {**{f"{name}_camera": cycle for name, cycle in self.camera.items()}, "control": self.control}
        return {
            name: {"expected": c.expected, "missed": c.missed, "share": round(c.missed / max(1, c.expected), 5)}
            for name, c in cycles.items()
        }


class Cycle:
    """Counts missed periods in a sequence of stamps."""

    def __init__(self, period: int) -> None:
        self._period, self._last = period, 0
        self.expected = self.missed = 0

    def add(self, stamp: int) -> None:
        """One message with this stamp [ns]."""
        if self._last and stamp > self._last:
            gap = (stamp - self._last) / self._period
            passed = round(gap) if gap >= GAP else 1
            self.expected += passed
            self.missed += passed - 1
        self._last = max(self._last, stamp)


def memory_mb(pids: Iterable[int]) -> dict[int, float]:
    """Proportional set size of processes [MB]: shared pages are divided among those who share them."""
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as lines:
                found[pid] = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        except (OSError, StopIteration):
            continue
    return found

"""A running stack that is kept in motion, for benchmarks that disturb it."""

import time
from typing import Any

import numpy as np

from vla_mbpo.eval.realtime import Stack
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE, TRAINING_TASKS

SEED = TEST_SEED_BASE + 950_000


class Live:
    """Attempts one after the other, and what the arm is told and does meanwhile. One thread.

    Attributes:
        commanded, measured: (stamp [s], largest joint speed [rad/s]) of every message.
        commitments, gates, trajectories: every message of the topic.
    """

    def __init__(self, stack: Stack) -> None:
        from vla_mbpo.nodes import convert, qos

        self.stack, self._seconds = stack, lambda stamp: convert.to_ns(stamp) / 1e9
        self.commanded: list[tuple[float, float]] = []
        self.measured: list[tuple[float, float]] = []
        self.commitments: list[Any] = []
        self.gates: list[Any] = []
        self.attempts = 0
        self._goal: Any = None
        listen = (
            (qos.COMMITMENT, self._on_commitment),
            (qos.JOINT_STATES, self._on_joints),
            (qos.GATE_STATE, self.gates.append),
        )
        for topic, callback in listen:
            stack.client.node.create_subscription(topic.type, topic.name, callback, topic.qos)

    def _on_commitment(self, message: Any) -> None:
        self.commitments.append(message)
        speed = np.abs(message.commanded_velocities).max(initial=0.0)
        self.commanded.append((self._seconds(message.header.stamp), float(speed)))

    def _on_joints(self, message: Any) -> None:
        self.measured.append((self._seconds(message.header.stamp), float(np.abs(message.velocity[:-2]).max())))

    def move(self, speed: float = 0.1, timeout: float = 60.0) -> None:
        """Until the policy moves the arm faster than ``speed`` [rad/s]; begins a new attempt where the last is over."""
        until = time.monotonic() + timeout
        while not (self.running and self.commanded and self.commanded[-1][1] > speed):
            if time.monotonic() > until:
                raise RuntimeError("the arm does not move")
            if not self.running:
                self._begin()
            self.stack.supervisor.poll()  # what was killed is started again
            self.stack.client.spin(0.02)

    @property
    def running(self) -> bool:
        """Whether an attempt is under way."""
        return self._goal is not None and not self._goal.done()

    def _begin(self) -> None:
        task = TRAINING_TASKS[self.attempts % len(TRAINING_TASKS)]
        self.attempts += 1
        self.stack.reset(task, SEED + self.attempts)
        self.engage()
        self._goal = self.stack.client.execute(TASKS[task].instruction, 15.0)

    def engage(self) -> None:
        """HOLD to AUTONOMOUS."""
        client, call = self.stack.client, []

        def engaged() -> bool:
            if client.gate is not None and client.gate.mode == client.gate.AUTONOMOUS:
                return True
            if not call or call[-1].done():
                call[:] = [client.engage()]
            return False

        self.stack.wait(engaged, 10.0, "engage")

    def to_rest(self, since: float, seconds: float) -> tuple[float, float]:
        """Wait ``seconds``; when the arm stood, from ``since`` [s] on: by command, by measurement (0.01 rad/s)."""
        self.stack.client.spin(seconds)
        return _stands(self.commanded, 1e-3, since), _stands(self.measured, 0.01, since)

    def dropped(self, since: float) -> float:
        """Stamp of the first commitment after ``since`` that has no rows [s]: its trajectory only brakes."""
        empty = (m for m in self.commitments if not len(m.positions))
        return min((t for t in (self._seconds(m.header.stamp) for m in empty) if t > since), default=float("inf"))

    def forget(self) -> None:
        """Drop what has been heard, so that memory stays bounded; the newest of each is kept."""
        for kept in (self.commanded, self.measured, self.commitments, self.gates):
            del kept[:-1]


def _stands(samples: list[tuple[float, float]], limit: float, since: float) -> float:
    """Seconds from ``since`` to the first sample from which on the speed is not above ``limit``; 0: it never was."""
    moving = [i for i, (stamp, speed) in enumerate(samples) if speed > limit and stamp > since - 0.02]
    return max(0.0, samples[min(moving[-1] + 1, len(samples) - 1)][0] - since) if moving else 0.0

"""One gate for several arms: their chunks pass together or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.cell import SEPARATOR, Arm, Cell
from vla_mbpo.core.chunk import ActionChunk, JointRows
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks import Context
from vla_mbpo.gate.checks.inter_arm import InterArm
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate, run_check
from vla_mbpo.gate.kinematics import Kinematics

FloatArray = NDArray[np.float64]
TOGETHER = ("chunk_set_id", "observation_stamp", "row_period", "horizon")  # of the chunks of one decision


@dataclass(frozen=True)
class Together:
    """What was approved: rows of each arm, in the order of the cell's arms."""

    rows: tuple[JointRows, ...]


class CellGate:
    """Judges one chunk per arm as a whole. Keeps no memory; reuses buffers, so one thread.

    Each arm's chunk passes the checks of that arm alone; then the distance between the arms is looked at, with the rows
    of the same due time. So what was approved is approved as long as both are on time: whoever executes it stops all
    arms when one stops (`arm/together.py`).
    """

    def __init__(self, cell: Cell, config: GateConfig | None = None) -> None:
        """Check everything that can be checked now.

        Raises:
            ConfigError: as of Gate, or two arms are closer than the margin at home or wherever they are.
        """
        self.cell, self.config = cell, config or GateConfig()
        self._gates = [Gate(arm.spec, self.config) for arm in cell.arms]
        self._joined = cell.joined()
        self.kinematics = Kinematics(self._joined, assembled(cell), lambda a, b: _arm_of(a) != _arm_of(b))
        self._check = InterArm()
        self._check_home()

    def vet(
        self,
        chunks: Sequence[ActionChunk],
        states: Sequence[RobotState],
        commanded: Sequence[FloatArray | None],
        now: int,
        epoch: int = 0,
        velocities: Sequence[FloatArray | None] | None = None,
    ) -> Together | tuple[Reason, ...]:
        """Judge the chunks of one moment.

        Args:
            chunks, states, commanded: one of each arm; see Gate.vet.
            now: [ns].
            epoch: copied to the rows.
            velocities: of the set points, likewise.

        Returns:
            Rows of every arm, or reasons: of the first arm that is refused, with its name, or of what is between them.
        """
        arms = self.cell.arms
        if not len(chunks) == len(states) == len(commanded) == len(arms):
            return (Reason("together", -1, "arms", len(chunks), len(arms), "one chunk, state and set point of each"),)
        for field in TOGETHER:
            values = [getattr(chunk, field) for chunk in chunks]
            if len(set(values)) > 1:
                return (Reason("together", -1, field, values[1], values[0], "differs between the arms"),)
        approved, speeds = [], velocities or [None] * len(arms)
        for arm, gate, chunk, state, at, v in zip(arms, self._gates, chunks, states, commanded, speeds, strict=True):
            found = gate.vet(chunk, state, at, now, epoch, v)
            if not isinstance(found, JointRows):
                return tuple(replace(reason, subject=arm.name + SEPARATOR + reason.subject) for reason in found)
            approved.append(found)
        ways = [
            gate.driven(chunk, rows.positions, state, at, now, v)
            for gate, chunk, rows, state, at, v in zip(
                self._gates, chunks, approved, states, commanded, speeds, strict=True
            )
        ]
        reason = self._between(chunks[0], approved, states, commanded, now, _at_once(ways))
        return Together(tuple(approved)) if reason is None else (reason,)

    def _between(
        self,
        chunk: ActionChunk,
        approved: Sequence[JointRows],
        states: Sequence[RobotState],
        commanded: Sequence[FloatArray | None],
        now: int,
        driven: FloatArray,
    ) -> Reason | None:
        anchors = [s.positions if at is None else at for s, at in zip(states, commanded, strict=True)]
        state = RobotState(
            min(s.stamp for s in states),
            np.concatenate([s.positions for s in states]),
            np.concatenate([s.velocities for s in states]),
            states[0].gripper,
        )
        context = Context(self._joined, self.config, self.kinematics, state, np.concatenate(anchors), now)
        context.drive = lambda _: driven
        context.arms = tuple(len(s.positions) for s in states)
        return run_check(self._check, chunk, np.hstack([rows.positions for rows in approved]), context)

    def _check_home(self) -> None:
        kinematics, margin = self.kinematics, self.cell.margin
        require(bool(kinematics.pairs), "arms", self.cell.name, "expected arms whose links can be compared")
        kinematics.place(self._joined.home[None])
        found = kinematics.self_clearance(margin)[0]
        if found.min() < margin:
            pair = kinematics.pairs[int(np.argmin(found))]
            raise ConfigError("margin", margin, f"{pair[0]} and {pair[1]} are closer than this at home")


def assembled(cell: Cell, read: Callable[[Arm], mujoco.MjSpec] | None = None) -> mujoco.MjSpec:
    """The arms in one model, links and joints with the arm's name before theirs.

    ``read`` gives an arm's own model; the URDF's by default.
    """
    world = mujoco.MjSpec()
    world.compiler.balanceinertia = True
    world.compiler.fusestatic = False
    for arm in cell.arms:
        quat = [np.cos(arm.yaw / 2), 0.0, 0.0, np.sin(arm.yaw / 2)]
        frame = world.worldbody.add_frame(pos=arm.position, quat=quat)
        own = mujoco.MjSpec.from_file(str(arm.spec.urdf)) if read is None else read(arm)
        world.attach(own, prefix=arm.name + SEPARATOR, frame=frame)
    return world


def _at_once(ways: Sequence[FloatArray]) -> FloatArray:
    """What each arm's driver makes of its rows (T_i, n_i), side by side (T, n): who stops first stays there."""
    longest = max(map(len, ways))
    return np.hstack([way[np.minimum(np.arange(longest), len(way) - 1)] for way in ways])


def _arm_of(link: str) -> str:
    return link.split(SEPARATOR, 1)[0]

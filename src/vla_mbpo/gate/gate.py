"""The gate: a chunk becomes approved joint rows, or reasons why not. It rejects; it never clamps."""

import itertools

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk, JointRows
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks import Check, Context, Stage, complete_set
from vla_mbpo.gate.config import GateConfig, check_spec
from vla_mbpo.gate.conversion import Converter
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.kinematics import Kinematics


class Gate:
    """Judges chunks. Keeps no memory from one chunk to the next; reuses buffers, so one thread."""

    def __init__(self, spec: RobotSpec, config: GateConfig | None = None, drive: Drive | None = None) -> None:
        """Check the configuration completely, so that judging cannot be undone by a bad limit.

        ``drive``: of the arm driver that the rows are for; by default one with the usual settings.

        Raises:
            ConfigError: a limit is not finite, an action type has no complete set of checks, or the robot would break
                its own limits at home.
        """
        self.spec, self.config = spec, config or GateConfig()
        check_spec(spec)
        self._stages = {
            kind: [tuple(group) for _, group in itertools.groupby(complete_set(kind), key=lambda check: check.stage)]
            for kind in self.config.action_types
        }
        self.kinematics, self.drive = Kinematics(spec), drive or Drive(spec)
        self._converter = Converter(spec, self.config.action_types)
        self._check_home()

    def vet(
        self,
        chunk: ActionChunk,
        state: RobotState,
        commanded: NDArray[np.float64] | None,
        now: int,
        epoch: int = 0,
        velocity: NDArray[np.float64] | None = None,
    ) -> JointRows | tuple[Reason, ...]:
        """Judge one chunk.

        Args:
            chunk: any action type the gate is configured for.
            state: measured state.
            commanded: set point of the arm driver at ``now`` [rad], (n,); None before the first motion.
            now: [ns].
            epoch: of the state machine, copied to the rows.
            velocity: of the set point [rad/s], (n,); None: as measured, or none before the first motion.

        Returns:
            Rows to execute, or all reasons of the first stage that failed.
        """
        stages = self._stages.get(chunk.action_type)
        if stages is None:
            names = ", ".join(kind.name for kind in self._stages)
            return (Reason("action_type", -1, str(chunk.action_type), float("nan"), float("nan"), f"accepts {names}"),)
        context = Context(self.spec, self.config, self.kinematics, state, commanded, now)
        context.tick, context.age = self.drive.tick, (now - chunk.observation_stamp) / 1e9
        context.drive = lambda rows: self.driven(chunk, rows, state, commanded, now, velocity)
        rows = chunk.positions
        for stage in stages:
            if stage[0].stage == Stage.ROWS:
                try:
                    rows = self._converter.rows(chunk)
                except Exception as error:
                    return (Reason("conversion", -1, chunk.action_type.name, float("nan"), 0.0, f"failed: {error!r}"),)
            found = (run_check(check, chunk, rows, context) for check in stage)
            reasons = tuple(reason for reason in found if reason is not None)
            if reasons:
                return reasons
        rows = rows.copy()  # the caller may still own the array the checks have looked at
        gripper = chunk.gripper.copy()
        rows.setflags(write=False)
        gripper.setflags(write=False)
        return JointRows(
            chunk.chunk_set_id, chunk.candidate, chunk.observation_stamp, chunk.expiry, self.spec.joints,
            chunk.row_period, rows, gripper, chunk.committed_rows, epoch,
        )  # fmt: skip

    def driven(
        self,
        chunk: ActionChunk,
        rows: NDArray[np.float64],
        state: RobotState,
        commanded: NDArray[np.float64] | None,
        now: int,
        velocity: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """What the driver makes of absolute ``rows`` (H, n) [rad] of a chunk: see Drive.path, and ``vet``."""
        if commanded is None:  # the driver starts at the measured pose, from rest
            return self.drive.path(chunk, rows, state.positions, np.zeros_like(state.positions), now)
        return self.drive.path(chunk, rows, commanded, state.velocities if velocity is None else velocity, now)

    def _check_home(self) -> None:
        """A home pose that breaks a limit is a wrong limit or a wrong URDF: say so before anything moves."""
        spec, kinematics = self.spec, self.kinematics
        kinematics.place(spec.home[None])
        tool = kinematics.tool[0]
        if not ((tool >= spec.workspace_lower) & (tool <= spec.workspace_upper)).all():
            raise ConfigError("workspace", np.round(tool, 4).tolist(), "must contain the tool at home")
        low = int(np.argmin(kinematics.table_clearance()[0]))
        if kinematics.table_clearance()[0, low] < spec.table_margin:
            raise ConfigError("table", kinematics.links[low], "must be above the table at home")
        lower, upper = (bound[0] for bound in kinematics.bounds())
        outside = np.maximum(spec.links_lower - lower, upper - spec.links_upper).max(axis=1)
        if outside.max() > 0:
            raise ConfigError("links", kinematics.links[int(np.argmax(outside))], "must lie in their box at home")
        for field, names, clearance in (
            ("self_collision_margin", kinematics.pairs, kinematics.self_clearance),
            ("obstacle_margin", kinematics.obstacle_pairs, kinematics.obstacle_clearance),
        ):
            margin = getattr(spec, field)
            found = clearance(margin)[0]
            if found.size and found.min() < margin:
                pair = names[int(np.argmin(found))]
                raise ConfigError(field, margin, f"{pair[0]} and {pair[1]} are closer than this at home")


def run_check(check: Check, chunk: ActionChunk, rows: NDArray[np.float64], context: Context) -> Reason | None:
    """Run a check; a check that breaks down has not passed."""
    try:
        return check(chunk, rows, context)
    except Exception as error:
        return Reason(check.name, -1, "check", float("nan"), float("nan"), f"failed: {error!r}")

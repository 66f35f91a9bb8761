"""Rollouts: what the arm saw, was told and did, good or bad. For the world model, the failure detector and dream RL.

One npz per attempt, over T row periods (20 Hz) and M looks at the scene (the first at row 0, then every LOOK_ROWS,
or where the policy looked):
    at (M,) row index of each look; head, wrist (M, s, s, 3) uint8; joints, velocities (M, n); gripper (M,) [m];
    set_point (T, n) joint positions commanded at the end of each row [rad]; opening (T,) commanded gripper [m];
    cost (T,) number of cost events that began in the row; events (E,) their names, in order;
    success_row: first row after which the task was done, -1: never; failed: it cannot be done any more;
    cubes (M, 3, 3), points (M, 9), things: ground truth where a simulator knows it, as in training/demonstrations.py;
    candidates (M, K, H, n + 1), features (M, F): a policy's chunks [rad, m] and features at each look, K may be 0;
    source: who drove; task, seed; instruction: what the task is called; policy: version of the bundle that drove, empty
    if none did;
    disturbance, disturbed_at, told: kind (sim/disturbances.py) and time [s] of what went wrong, and what the policy was
    told to do, where disturbances were asked for.

Optional, of recordings of the live stack (training/live.py); a rollout without them had none of it:
    vetoed (M, K) bool: candidates that the gate or the imagination refused; alarm (M,) bool: the failure detector
    raised its alarm between this look and the next; human (T,) bool: a person was in command in the row, from the
    takeover (or from when one was asked for) until autonomy was engaged again; aborted bool: the attempt was stopped,
    and nobody knows how it would have ended; made_of: the recording that the file was made of (training/episodes.py).
    Looks are where the policy looked and, where it did not for long, every LOOK_ROWS; there its candidates and features
    are NaN. A stamp may lie half a row beside its look's row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.policy.runtime import REPLAN_ROWS, Candidates
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.world import TABLETOP, World

LOOK_ROWS = REPLAN_ROWS
SEEN = "at head wrist joints velocities gripper candidates features".split()


class Tape:
    """Collects one attempt in the simulator. Call ``look`` before the row it belongs to, ``row`` after each row."""

    def __init__(self, robot: SimRobot, world: World = TABLETOP) -> None:
        self._robot, self._truth = robot, world.truth
        self._rows: list[tuple[Any, ...]] = []
        self._looks: list[dict[str, Any]] = []
        self._opening = robot.spec.gripper_range[1]

    def told(self, opening: float | None) -> None:
        """The gripper was commanded [m]; None: it keeps its last command."""
        self._opening = self._opening if opening is None else opening

    def look(self, head: NDArray[np.uint8], wrist: NDArray[np.uint8], found: Candidates | None = None) -> None:
        """Pictures of now, and what a policy made of them."""
        robot = self._robot
        state, rows, n = robot.state(), robot.spec.horizon, len(robot.spec.joints)
        candidates, features = np.zeros((0, rows, n + 1), np.float32), np.zeros(0, np.float32)
        if found is not None:
            candidates = np.concatenate([found.positions, found.gripper[..., None]], 2).astype(np.float32)
            features = found.features
        truth = {name: value.astype(np.float32) for name, value in self._truth(robot).items()}
        body = np.float32(state.positions), np.float32(state.velocities), np.float32(state.gripper)
        now = dict(zip(SEEN, (len(self._rows), head, wrist, *body, candidates, features), strict=True))
        self._looks.append(now | truth)

    @property
    def length(self) -> int:
        """Rows so far."""
        return len(self._rows)

    def row(self, set_point: NDArray[np.float64] | None) -> None:
        """A row period has passed, at whose end ``set_point`` (n,) [rad] was commanded; None: nothing was yet."""
        referee = self._robot.referee
        if set_point is None:
            set_point = self._robot.set_point()
        self._rows.append((set_point, self._opening, len(referee.events), referee.success))

    def arrays(self) -> dict[str, Any]:
        """See the module; without source, task and seed."""
        set_point, opening, events, success = (np.array(column) for column in zip(*self._rows, strict=True))
        made = {name: np.stack([look[name] for look in self._looks]) for name in self._looks[0]}
        return made | {
            "instruction": self._robot.scene.instruction,
            "at": made["at"].astype(np.int32),
            "set_point": set_point.astype(np.float32),
            "opening": opening.astype(np.float32),
            "cost": np.diff(events, prepend=0).astype(np.uint8),
            "events": np.array(self._robot.referee.events, dtype=str),
            "success_row": int(np.argmax(success)) if success.any() else -1,
            "failed": self._robot.referee.failed(),
        }

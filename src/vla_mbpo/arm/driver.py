"""The arm driver: approved rows in, a short trajectory that ends at rest out, 50 times a second."""

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.arm.admission import rows_fault, state_fault
from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.plan import Plan
from vla_mbpo.arm.rows import RowClock
from vla_mbpo.arm.smoother import JointState, Motion, Smoother
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.core.verdict import Reason

FloatArray = NDArray[np.float64]
GRIPPER_HASTE = 1.02  # times its speed: rows are rounded to float32, and the gate allows for that
REPEATED = 0.05  # rad; rows of two chunks can be some ms off a common grid, and the path between them is a curve


class ArmDriver:
    """Executes rows on time under the joint limits, and stops by itself when anything it needs is missing.

    One thread. Times are int ns of one clock. What the controller executes is known at any time: the trajectory
    published last (``Plan``). Every tick starts from its state at that moment, so late ticks make no step, and a driver
    that was frozen finds the arm where the controller has braked it.

    Attributes:
        clock: the rows, with counters of executed and late ones.
        epoch: gate epoch whose rows are taken.
        stop_reason: why the rows were dropped last; empty while rows are taken.
        seams, worst_seam_ratio: see Commitment.
    """

    def __init__(self, spec: RobotSpec, config: DriverConfig | None = None) -> None:
        """Start without rows, in epoch 0."""
        self.spec, self.config = spec, config or DriverConfig()
        self.clock = RowClock()
        self.epoch = 0
        self.stop_reason = ""
        self.seams, self.worst_seam_ratio = 0, 0.0
        self._smoother = Smoother(spec, self.config)
        self._tick, self._look_ahead = round(self.config.tick * 1e9), round(self.config.look_ahead * 1e9)
        self._now = 0
        self._state: RobotState | None = None
        self._plan: Plan | None = None
        self._latched = self._stopping = False
        self._resume_after = 0  # rows of older observations were planned before the last stop
        self._last_observation = -1
        self._rest_since: int | None = None
        self._seam_until = 0
        self._last: tuple[int, FloatArray] | None = None  # time and commanded velocity of the last tick
        self._grip: float | None = None  # opening commanded last [m]
        self._gripped, self._spared = 0, 0.0  # time of the last tick, and what of the gripper's way it left unused [m]

    def measure(self, state: RobotState) -> None:
        """Take the newest measured state. Older ones are ignored, unless the newest is from the future."""
        newest = self._state.stamp if self._state is not None else -1
        if state.stamp > newest or newest > self._now + self.config.max_future * 1e9:
            self._state = state

    def enter_epoch(self, epoch: int) -> None:
        """Follow the gate into another epoch: rows of the old one are dropped."""
        if epoch != self.epoch:
            self.epoch = epoch
            idle = self.clock.first_due(self._now) is None
            resume_after = self._resume_after
            self.stop(f"epoch {epoch}")
            if idle and not self._stopping:  # nothing was dropped, so nothing was planned on top of it
                self._resume_after = resume_after

    def stop(self, reason: str, latch: bool = False) -> None:
        """Controlled stop; drops the committed rows.

        Afterwards only rows whose observation shows the arm at rest again are taken, or a person's later ones. With
        ``latch`` (e-stop), none are until ``release``.
        """
        self.clock.clear()
        self.stop_reason = reason
        self._latched |= latch
        self._stopping = not self.at_rest(self._now)
        self._resume_after = max(self._resume_after, self._now)

    def release(self) -> None:
        """End a latched stop."""
        self._latched = False

    def offer(self, rows: JointRows, now: int) -> tuple[Reason, ...]:
        """Take approved rows.

        Returns:
            Why they are refused; empty: taken.
        """
        if not self._clock_advances(now):
            return (Reason("clock", -1, "now", now / 1e9, self._now / 1e9, "went back"),)
        reason = self._refusal(rows, now)
        if reason is not None:
            return (reason,)
        if rows.epoch > self.epoch:
            # Only the gate makes rows, so rows of a later epoch are the news of it.
            self.enter_epoch(rows.epoch)
            if rows.teleop:
                self._resume_after = min(self._resume_after, rows.observation_stamp)
            reason = self._refusal(rows, now)
            if reason is not None:
                return (reason,)
        moving = self.clock.first_due(now) is not None
        start = self._start(now)
        if isinstance(start, Reason):
            return (start,)
        first = next((k for k in range(len(rows.positions)) if rows.due(k) > now), None)
        if first is None:
            late = (now - rows.due(len(rows.positions) - 1)) / 1e9
            return (Reason("late", len(rows.positions) - 1, "due", late, 0.0, "every row is past"),)
        gap = np.abs(rows.positions[first] - start.q)
        if gap.max() > self.config.max_gap:
            joint = self.spec.joints[int(np.argmax(gap))]
            return (Reason("gap", first, joint, float(gap.max()), self.config.max_gap),)
        wrong = self.clock.mismatch(rows, now)
        if wrong is not None and wrong[2] > REPEATED:
            row, index, apart = wrong
            text = "another row is committed here"
            return (Reason("committed_rows", row, self.spec.joints[index], apart, REPEATED, text),)
        if self.clock.offer(rows, now, start.q, start.v):
            self._begin(now, start)
            self._last_observation, self.stop_reason = rows.observation_stamp, ""
            self._stopping = False
            if moving and not rows.teleop:
                self.seams += 1
                self._seam_until = now + 4 * rows.row_period  # committed rows come first, then the seam
        return ()

    def tick(self, now: int) -> Trajectory | None:
        """Plan from the commanded state at ``now``; call it every ``config.tick``.

        Returns:
            Motion for the next ticks with a brake at its end, or None when there is nothing to say: the arm stands.
        """
        if not self._clock_advances(now):
            return None
        self._note_grip(now)
        if self._plan is None:
            return None
        state = self._plan.at(now)
        self._watch_seam(now, state)
        fault = self._fault(now, state)
        if fault and self.clock.first_due(now) is not None:
            self.stop(fault)
        motions, end = self._motions(now, state)
        self._plan = Plan(now, self._tick, motions, self._smoother.stop(end))
        if motions or not state.at_rest:
            self._rest_since = None
        else:
            if self._stopping:
                self._stopping, self._resume_after = False, now
            self._rest_since = now if self._rest_since is None else self._rest_since
            if fault or now - self._rest_since > self.config.quiet_after * 1e9:
                self._let_go(state)
                return None
        return self._plan.trajectory(self.spec.joints, self.config.motion_ticks)

    def gripper(self, now: int) -> float | None:
        """Opening that the row of this moment commands [m]; None: no command, the gripper keeps its last one.

        Within a chunk the gate has seen to the gripper's speed. Where a chunk begins elsewhere than the gripper is, the
        way there is gone at that speed, too.
        """
        wanted, before = self.clock.gripper(now), self._opening
        if wanted is None or before is None:
            return None
        return float(np.clip(wanted, before - self._reach(now), before + self._reach(now)))

    @property
    def _opening(self) -> float | None:
        """Commanded last, or measured if nothing has been commanded yet [m]."""
        measured = None if self._state is None or not np.isfinite(self._state.gripper) else self._state.gripper
        return measured if self._grip is None else self._grip

    def _reach(self, now: int) -> float:
        """How far from its last command the gripper may be at ``now`` [m]. Rows and ticks have no common grid."""
        speed = self.spec.gripper_speed * GRIPPER_HASTE
        most = 2 * speed * self.spec.row_period / 1e9
        return min(self._spared + speed * max(now - self._gripped, 0) / 1e9, most)

    def _note_grip(self, now: int) -> None:
        """Remember what ``gripper`` commands at this tick."""
        before, opening, reach = self._opening, self.gripper(now), self._reach(now)
        if opening is not None and before is not None:
            self._grip, reach = opening, max(0.0, reach - abs(opening - before))
        self._spared, self._gripped = reach, now

    def at_rest(self, now: int) -> bool:
        """Whether the commanded motion is over at ``now``."""
        return self._plan is None or (self._plan.motion_end <= now and self._plan.at(now).at_rest)

    def commanded(self, now: int) -> FloatArray | None:
        """Set point at ``now`` [rad], (n,); None before the first motion. For ``Gate.vet``."""
        return None if self._plan is None else self._plan.at(now).q

    def velocity(self, now: int) -> FloatArray | None:
        """Of the set point [rad/s], (n,), likewise."""
        return None if self._plan is None else self._plan.at(now).v

    def commitment(self, now: int) -> Commitment:
        """Rows still to be executed, with due times; counters."""
        first, positions, gripper = self.clock.grid(now)
        state = None if self._plan is None else self._plan.at(now)
        n = len(self.spec.joints)
        return Commitment(
            stamp=now,
            joint_names=self.spec.joints,
            chunk_set_id=self.clock.source(now),
            first_due=first,
            row_period=self.spec.row_period,
            positions=positions if len(positions) else np.zeros((0, n)),
            gripper=gripper,
            commanded_positions=np.zeros(0) if state is None else state.q,
            commanded_velocities=np.zeros(0) if state is None else state.v,
            rows_executed=self.clock.executed,
            rows_dropped_late=self.clock.dropped_late,
            rows_executed_late=self.clock.executed_late,
            seams=self.seams,
            worst_seam_ratio=self.worst_seam_ratio,
        )

    def _motions(self, now: int, state: JointState) -> tuple[tuple[Motion, ...], JointState]:
        """Motions of the next ticks, as far as there are rows, and the state after them."""
        motions: list[Motion] = []
        for k in range(1, self.config.motion_ticks + 1):
            target = self.clock.aim(now + k * self._tick, self._look_ahead)
            if target is None:
                break
            motion, state = self._smoother.step(state, target, self._tick / 1e9)
            motions.append(motion)
        return tuple(motions), state

    def _start(self, now: int) -> JointState | Reason:
        """State from which new rows go on: the commanded one, or the measured one if the arm rests elsewhere.

        An arm that moves and that nobody here has a plan of has no such state: a driver that was restarted finds it in
        the brake of its last trajectory.
        """
        assert self._state is not None  # _refusal has looked
        state = None if self._plan is None else self._plan.at(now)
        if state is not None:
            near = np.abs(self._state.positions - state.q).max() <= self.config.reanchor
            if near or not state.at_rest or self.clock.first_due(now) is not None:
                return state
        speed = np.abs(self._state.velocities)
        if not speed.max() <= self.config.start_speed:
            joint = int(np.argmax(speed))
            return Reason("in_motion", -1, self.spec.joints[joint], float(speed[joint]), self.config.start_speed)
        return JointState.rest(self._state.positions)

    def _begin(self, now: int, start: JointState) -> None:
        """Make ``start`` the commanded state, if it is not."""
        if self._plan is None or not np.array_equal(self._plan.at(now).q, start.q):
            self._plan = Plan.standstill(now, self._tick, self._smoother.brake(start))
            self._last = None

    def _let_go(self, state: JointState) -> None:
        """Forget the set point if the silent arm has been moved away from it: what comes next starts where it is."""
        if self._state is None or self._state_fault(self._now):
            return
        if np.abs(self._state.positions - state.q).max() > self.config.reanchor:
            self._plan, self._last = None, None

    def _refusal(self, rows: JointRows, now: int) -> Reason | None:
        """First reason not to take ``rows``, apart from where they lead."""
        if rows.epoch < self.epoch:
            return Reason("epoch", -1, "epoch", rows.epoch, self.epoch, "approved before a change of mode")
        if self._latched:
            return Reason("stopped", -1, "latch", 1.0, 0.0, self.stop_reason)
        unfit = rows_fault(rows, self.spec, now, self.config)
        if unfit is not None:
            return unfit
        if rows.observation_stamp <= self._last_observation:
            behind = (self._last_observation - rows.observation_stamp) / 1e9
            return Reason("order", -1, "observation_stamp", behind, 0.0, "rows of a newer observation are here")
        if self._stopping and not rows.teleop or rows.observation_stamp < self._resume_after:
            before = (self._resume_after - rows.observation_stamp) / 1e9
            return Reason("before_stop", -1, "observation_stamp", before, 0.0, self.stop_reason)
        fault = self._state_fault(now)
        return Reason("measured_state", -1, "joint_states", float("nan"), 0.0, fault) if fault else None

    def _state_fault(self, now: int) -> str:
        return state_fault(self._state, len(self.spec.joints), now, self.config)

    def _fault(self, now: int, state: JointState) -> str:
        """Why motion must end; empty: it may go on."""
        fault = self._state_fault(now)
        if fault or self.clock.first_due(now) is None:
            return fault
        assert self._state is not None
        lag = np.abs(self._state.positions - state.q)
        over = lag - self.config.max_lag - self.config.servo_delay * np.abs(state.v)
        if over.max() > 0:
            joint = int(np.argmax(over))
            return f"{self.spec.joints[joint]} {lag[joint]:.3f} rad behind its command"
        target = self.clock.target(now)
        gap = 0.0 if target is None else float(np.abs(target.q - state.q).max())
        return f"{gap:.3f} rad off the path" if gap > self.config.max_gap else ""

    def _watch_seam(self, now: int, state: JointState) -> None:
        """Largest velocity step from tick to tick around a switch of chunks, relative to the acceleration limit."""
        if self._last is not None and self._last[0] <= self._seam_until and now > self._last[0]:
            allowed = self.spec.acceleration * (now - self._last[0]) / 1e9
            ratio = float((np.abs(state.v - self._last[1]) / allowed).max())
            self.worst_seam_ratio = max(self.worst_seam_ratio, ratio)
        self._last = (now, state.v)

    def _clock_advances(self, now: int) -> bool:
        """False, with everything dropped, if the clock went back: nothing known is about this time any more."""
        if now >= self._now:
            self._now = now
            self.clock.advance(now, 0 if self._plan is None else self._plan.motion_end)
            return True
        self.restart(now, "clock went back")
        return False

    def restart(self, now: int, reason: str) -> None:
        """Drop everything: ``now`` is of another time than what is known, as after a step of the clock.

        The controller still ends the last trajectory, whose motion no row may be planned from.
        """
        left = 0 if self._plan is None else max(0, self._plan.end - self._now)
        self._now, self._resume_after = now, now + left
        self._plan, self._state, self._last, self._rest_since = None, None, None, None
        self._last_observation = -1
        self.stop(reason)
        self.clock.rewind(now)

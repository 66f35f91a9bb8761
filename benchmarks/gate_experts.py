"""False stops: the gate on chunks cut from the scripted experts' motions."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_motions import make_chunk
from vla_mbpo.core.chunk import ActionChunk, JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.eval.statistics import wilson
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.sim.experts import Expert
from vla_mbpo.sim.robot import SimRobot
from vla_mbpo.sim.scene import Scene
from vla_mbpo.sim.tasks import TASKS

FIRST_SEED = 1_500_000  # calibration seeds
AGE = 100_000_000  # from observation to gate [ns], as in vla_mbpo.eval.lockstep
STRIDE, AFTER_SUCCESS, TIMEOUT = 8, 8, 15.0  # rows from chunk to chunk, rows kept after success, s


def experts(spec: RobotSpec, seeds: int) -> dict[str, Any]:
    """False stops on chunks of the experts' motions, all tasks, ``seeds`` attempts each."""
    gate = Gate(spec, GateConfig())
    n = refused = 0
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    tasks: Counter[str] = Counter()
    for task in TASKS:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            for chunk, state, commanded, now in expert_cases(spec, task, seed):
                n += 1
                verdict = gate.vet(chunk, state, commanded, now)
                if isinstance(verdict, JointRows):
                    continue
                refused += 1
                tasks[task] += 1
                reasons.update(reason.check for reason in verdict)
                examples += [f"{task} {seed} at {chunk.observation_stamp / 1e9:g} s: {reason}" for reason in verdict]
    return {
        "n": n, "attempts": seeds * len(TASKS), "refused": refused, "rate": round(refused / n, 5) if n else None,
        "interval": wilson(refused, n), "reasons": dict(reasons), "tasks": dict(tasks), "examples": examples[:20],
    }  # fmt: skip


def expert_cases(
    spec: RobotSpec, task: str, seed: int
) -> Iterator[tuple[ActionChunk, RobotState, NDArray[np.float64], int]]:
    """The expert's attempt at (task, seed), cut into chunks; each as Gate.vet gets it, AGE after the observation."""
    robot = SimRobot(spec, Scene.build(spec, task, seed))
    expert = Expert(robot)
    states, set_points, rows, openings = [robot.state()], [robot.set_point()], [], []
    after = 0
    while robot.time < TIMEOUT * 1e9 and after <= AFTER_SUCCESS:
        target, opening = expert.row()
        robot.accept(Trajectory(0, spec.joints, (spec.row_period,), target[None], np.zeros((0, len(target)))))
        robot.command_gripper(opening)
        robot.advance(robot.time + spec.row_period)
        rows.append(target)
        openings.append(opening)
        states.append(robot.state())
        set_points.append(robot.set_point())
        after += robot.referee.success
    lag = AGE // spec.row_period
    for i in range(0, len(rows) - spec.horizon + 1, STRIDE):
        chunk = make_chunk(spec, np.array(rows[i : i + spec.horizon]), states[i].positions, states[i].stamp)
        chunk = replace(
            chunk, gripper=np.array(openings[i : i + spec.horizon]), committed_rows=min(i, spec.commit_rows)
        )
        yield chunk, states[i + lag], set_points[i + lag], states[i].stamp + AGE

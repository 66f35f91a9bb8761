"""Rollouts (training/tape.py) in memory, as samples of the world model: an observation, two chunk steps, what came."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.imagination.actions import ActionBins, action_rows
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.instructions import instruction_of

STEPS = 2
AMBIGUOUS = 8  # rows before success in which a picture may already show it: no label for "done"
UNTRIED = -2  # of Branches' rows to go: nobody went on
HALF_TIME = 40  # rows; what is that much farther away counts half in the discounted outcome
PER_LOOK = ("head", "wrist", "joints", "velocities", "gripper", "points")


class Rollouts:
    """All looks of some rollouts. Read-only after construction.

    Attributes:
        pictures: head and wrist (N, s, s, 3) uint8.
        proprio: (N, P): joints, velocities, opening, tool position.
        words: (N, L).
        bins: (N, H, A) of the rows executed from the look on.
        follower: (N, STEPS) index of the look at the end of each chunk step; itself where there is none.
        seen: (N, STEPS) whether there is one.
        outcome: (N, STEPS, 4): done by the end of the step, 0.5 ** (rows until done / HALF_TIME), done ever, and the
            second again for who can do the task (imagination/network.py).
        labelled: (N, STEPS, 4) whether that is known.
        whole: (N, STEPS) whether the rows up to the end of the step were all driven: what stands in for the others is
            the last row, and only attempts that fail end before their chunks do.
        cost: (N, STEPS) a cost event within the step; ``costed`` whether that is known.
        placed: (N,) whether somebody knew where things are.
        unaided: (N,) whether how the attempt ended is what came of this look: no person was in command after it, and
            nobody stopped the attempt. Else ``outcome`` is labelled only as far as it was seen.
        rows: (N, H, A) of the chunk executed from the look on (imagination/actions.py); ``at``: the look's row.
        episode: (N,) number of the rollout; ``files`` theirs, ``facts`` source, policy, task, seed, success and its row
            of each, and whether it was aborted.
    """

    def __init__(
        self, files: list[Path], spec: RobotSpec, vocabulary: Vocabulary, bins: ActionBins | None = None
    ) -> None:
        """Read.

        Args:
            files: rollouts.
            spec: the robot they were made with.
            vocabulary: of the instructions.
            bins: ranges of a trained model; None: of these rollouts.
        """
        require(bool(files), "rollouts", "none found", "run `vla-mbpo train rollouts` first")
        self.files, kinematics = files, Kinematics(spec)
        parts: dict[str, list[Any]] = {}
        self.facts: list[dict[str, Any]] = []
        base = 0
        for number, file in enumerate(files):
            with np.load(file) as episode:
                made = _samples(episode, spec.horizon, kinematics)
                said = instruction_of(episode)
                self.facts.append(_facts(episode))
            count = len(made["at"])
            made["words"] = np.tile(vocabulary.encode(said), (count, 1))
            made["episode"] = np.full(count, number)
            made["follower"] += base
            base += count
            for key, value in made.items():
                parts.setdefault(key, []).append(value)
        joined = {key: np.concatenate(parts.pop(key)) for key in list(parts)}
        self.pictures = joined["head"], joined["wrist"]
        self.proprio = joined["proprio"].astype(np.float32)
        self.action_bins = bins or ActionBins.of(joined["rows"].reshape(-1, joined["rows"].shape[-1]))
        self.rows: NDArray[np.float32] = joined["rows"].astype(np.float32)
        self.bins = self.action_bins.bins(joined["rows"])
        self.points: NDArray[np.float32]
        for key in "at words episode follower seen outcome labelled whole cost costed points unaided".split():
            setattr(self, key, joined[key])
        self.at: NDArray[np.int32]
        self.words: NDArray[np.int64]
        self.episode: NDArray[np.int64]
        self.follower: NDArray[np.int64]
        self.seen: NDArray[np.bool_]
        self.outcome: NDArray[np.float32]
        self.labelled: NDArray[np.bool_]
        self.whole: NDArray[np.bool_]
        self.cost: NDArray[np.float32]
        self.costed: NDArray[np.bool_]
        self.unaided: NDArray[np.bool_]
        self.placed = np.isfinite(self.points).all(1)

    def __len__(self) -> int:
        return len(self.proprio)

    def things(self) -> NDArray[np.float32]:
        """Object, goal, object - tool, goal - tool, (N, 12) [units of 5 cm]; 0 where not ``placed``."""
        p = np.nan_to_num(self.points).reshape(-1, 3, 3)
        return (20 * np.stack([p[:, 0], p[:, 1], p[:, 0] - p[:, 2], p[:, 1] - p[:, 2]], 1)).reshape(len(p), -1)


class Branches:
    """All branched looks (training/branches.py). Read-only after construction.

    Attributes:
        pictures, proprio, words: as Rollouts.
        bins: (N, B, H, A) of the chunks that were tried.
        to_go: (N, B) 0.5 ** (rows to go / HALF_TIME), 0 where the task was not done any more.
        finished: (N,) whether ``to_go`` is known.
        cost: (N, B) a cost event within the chunk.
        seed: (N,) of the scene.
    """

    def __init__(self, files: list[Path], spec: RobotSpec, vocabulary: Vocabulary, bins: ActionBins) -> None:
        """Read; files without a branch are passed over."""
        kinematics = Kinematics(spec)
        parts: dict[str, list[Any]] = {}
        for file in files:
            with np.load(file) as episode:
                if "hits" not in episode:
                    continue
                chunks, joints = episode["chunks"].astype(np.float64), episode["joints"].astype(np.float64)
                shape, n = chunks.shape[:3], joints.shape[1]
                kinematics.place(np.concatenate([joints, chunks[..., :n].reshape(-1, n)]))
                now, ways = kinematics.tool[: len(joints)].copy(), kinematics.tool[len(joints) :].reshape(*shape, 3)
                rows = action_rows(chunks[..., :n], chunks[..., n], ways, joints[:, None], now[:, None])
                body = (joints, episode["velocities"], episode["gripper"][:, None], now)
                to_go = episode["to_go"].astype(np.float64)
                made = {
                    "head": episode["head"], "wrist": episode["wrist"], "proprio": np.concatenate(body, 1),
                    "bins": bins.bins(rows), "cost": episode["hits"] > 0,
                    "finished": to_go[:, 0] != UNTRIED,
                    "to_go": np.where(to_go >= 0, 0.5 ** (np.maximum(to_go, 0) / HALF_TIME), 0.0),
                    "words": np.tile(vocabulary.encode(instruction_of(episode)), (len(joints), 1)),
                    "seed": np.full(len(joints), int(episode["seed"])),
                }  # fmt: skip
            for key, value in made.items():
                parts.setdefault(key, []).append(value)
        require(bool(parts), "branches", "none found", "run `vla-mbpo train rollouts --branches` first")
        joined = {key: np.concatenate(parts.pop(key)) for key in list(parts)}
        self.pictures = joined["head"], joined["wrist"]
        self.proprio, self.words = joined["proprio"].astype(np.float32), joined["words"]
        self.bins, self.to_go = joined["bins"], joined["to_go"].astype(np.float32)
        self.cost = joined["cost"].astype(np.float32)
        self.finished: NDArray[np.bool_] = joined["finished"]
        self.seed: NDArray[np.int64] = joined["seed"]

    def __len__(self) -> int:
        return len(self.proprio)


def _facts(episode: Any) -> dict[str, Any]:
    """Of one rollout, as in ``Rollouts.facts``."""
    said = {name: str(episode[name]) for name in ("source", "task", "policy")}
    row, aborted = int(episode["success_row"]), bool(episode.get("aborted", False))
    return {**said, "seed": int(episode["seed"]), "success": row >= 0, "success_row": row, "aborted": aborted}


def _samples(episode: Any, horizon: int, kinematics: Kinematics) -> dict[str, NDArray[Any]]:
    """Looks of one rollout; ``follower`` counts within it."""
    at, rows = episode["at"], len(episode["set_point"])
    looks = {name: episode[name] for name in PER_LOOK}
    kinematics.place(looks["joints"].astype(np.float64))
    tool_now = kinematics.tool.copy()
    kinematics.place(episode["set_point"].astype(np.float64))
    tool = kinematics.tool
    index = np.minimum(at[:, None] + np.arange(horizon), rows - 1)
    chunk = action_rows(
        episode["set_point"][index], episode["opening"][index], tool[index], looks["joints"], tool_now
    )  # fmt: skip
    looks["proprio"] = np.concatenate([looks["joints"], looks["velocities"], looks["gripper"][:, None], tool_now], 1)
    ends = at[:, None] + horizon * np.arange(1, STEPS + 1)
    place = {int(row): i for i, row in enumerate(at)}
    follower = np.array([[place.get(int(e), -1) for e in row] for row in ends])
    seen = follower >= 0
    done, ever = int(episode["success_row"]), bool(episode["success_row"] >= 0)
    late = np.maximum(done - ends, 0) if ever else np.zeros_like(ends)
    soon = ever * 0.5 ** (late / HALF_TIME)
    outcome = np.stack([ever * (done < ends), soon, np.full(ends.shape, ever), soon], -1)
    labelled = np.ones(outcome.shape, bool)
    labelled[..., 0] = ~(ever & (ends <= done) & (ends > done - AMBIGUOUS))
    labelled[..., 3] = str(episode["source"]) == "expert"
    whole = ends <= rows
    labelled &= whole[:, :1, None]
    unaided = (at > _last_of_a_person(episode)) & (not bool(episode.get("aborted", False)))
    labelled[..., 1:] &= unaided[:, None, None]
    total = np.concatenate([[0], np.cumsum(episode["cost"], dtype=np.int64)])
    counted = total[np.minimum(ends, rows)] - total[np.minimum(ends - horizon, rows)]
    return looks | {
        "at": at,
        "rows": chunk,
        "follower": np.where(seen, follower, np.arange(len(at))[:, None]),
        "seen": seen,
        "outcome": outcome.astype(np.float32),
        "labelled": labelled,
        "cost": (counted > 0).astype(np.float32),
        "whole": whole,
        "costed": whole | (counted > 0),
        "unaided": unaided,
    }


def _last_of_a_person(episode: Any) -> int:
    """Last row until the task was done in which a person was in command, -1: none was."""
    done = int(episode["success_row"])
    human = episode.get("human", np.zeros(0, bool))
    return int(np.flatnonzero(human[: done + 1] if done >= 0 else human).max(initial=-1))

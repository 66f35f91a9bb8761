"""The world model as the world that a policy is trained in (torch): logged observations, chunks, what they lead to."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.imagination.actions import ActionBins, action_rows
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.network import FlowPolicy
from vla_mbpo.policy.runtime import rate_limited
from vla_mbpo.training.admission import Admission
from vla_mbpo.training.calibration import OWN, VALUE
from vla_mbpo.training.precision import CPU, reduced
from vla_mbpo.training.rollout_data import HALF_TIME, Rollouts
from vla_mbpo.training.tried import SHORTEST
from vla_mbpo.training.world_model import WorldModelRecipe, load_perception, load_world_model, perceive, seen_before

BATCH = 128
SAME = 1e-6  # rad; committed rows are copied into every candidate
DONE = 0.5  # probability of being done above which a branch has ended


@dataclass(frozen=True)
class States:
    """Observations as policy and world model read them, (B, ...).

    Attributes:
        row: in the log.
        words: ids of the instruction.
        views: tokens that the eyes of the policy which the log is of give, both views (B, 4, width).
        body: proprioception as the policy reads it, standardised.
        eyes, latents, proprio: what the world model reads.
        joints: measured [rad]; gripper: [m].
        prefix: committed rows as the policy reads them (B, H, A); free: (B, H) 1 where a row is not committed.
    """

    row: Tensor
    words: Tensor
    views: Tensor
    body: Tensor
    eyes: Tensor
    latents: Tensor
    proprio: Tensor
    joints: Tensor
    gripper: Tensor
    prefix: Tensor
    free: Tensor

    def __len__(self) -> int:
        return len(self.words)

    def at(self, index: Tensor) -> "States":
        """Some of them."""
        return States(*(getattr(self, field.name)[index.to(self.words.device)] for field in fields(self)))

    def to(self, device: torch.device) -> "States":
        """The same, there."""
        return States(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Judged:
    """What becomes of chunks.

    Attributes:
        to_go: (E, B) rows that who can do the task would still take after the chunk, as each member of the world
            model's ensemble expects it.
        cost: (B,) probability of a cost event within the chunk.
        success: (B,) probability that the attempt succeeds in the end.
        done: (B,) probability that it is done by the end of the chunk.
        unfit: (B,) whether the gate would refuse the chunk.
    """

    to_go: Tensor
    cost: Tensor
    success: Tensor
    done: Tensor
    unfit: Tensor

    def going(self, group: int) -> Tensor:
        """Indices of the chunks of all groups in which one at least is not the end of the task."""
        over = (self.done > DONE).unflatten(0, (-1, group)).all(1)
        return (~over.repeat_interleave(group)).nonzero()[:, 0]

    def then(self, later: "Judged", rows: int, going: Tensor) -> "Judged":
        """With what followed chunks ``going``, ``rows`` long, where they were not the end of the task.

        Time is counted from the end of the first chunk on, cost over all of them; whether the gate would refuse is
        asked of the first alone, since nobody drives the others.
        """
        to_go, cost, success, done = (
            mine.index_copy(-1, going, new)
            for mine, new in (
                (self.to_go, rows + later.to_go), (self.cost, 1 - (1 - self.cost[going]) * (1 - later.cost)),
                (self.success, later.success), (self.done, later.done),
            )
        )  # fmt: skip
        ended = self.done > DONE
        return Judged(
            torch.where(ended, self.to_go, to_go), torch.where(ended, self.cost, cost),
            torch.where(ended, self.success, success), torch.where(ended, self.done, done), self.unfit,
        )  # fmt: skip


class DreamWorld:
    """Reads logged rollouts as States, and says what chunks lead to. One thread, frozen networks."""

    def __init__(
        self,
        world_model: Path,
        calibration: dict[str, Any],
        policy: Bundle,
        net: FlowPolicy,
        spec: RobotSpec,
        device: torch.device = CPU,
        value: int = VALUE,
    ) -> None:
        """Load.

        Args:
            world_model: run folder.
            calibration: of that run's probabilities (training/calibration.py).
            policy: bundle whose rollouts are read.
            net: its network, whose eyes and reader stay as they are.
            spec: the robot.
            device: where networks and observations are; ``net`` is there.
            value: outcome that says what a chunk is worth: 3, the time that who can do the task would take, or 1, the
                time that who drove took. Where no expert has gone on from what policies do, only the latter is known.
        """
        require(value in (OWN, VALUE), "value", value, f"{OWN} or {VALUE}")
        known = value == OWN or calibration.get("value", VALUE) == VALUE
        require(known, "value", value, f"{OWN}: no expert went on in anything that this world model was trained on")
        net_there, state = load_world_model(world_model)
        self.net, self._device = net_there.requires_grad_(False).to(device), device
        self.trained_on = tuple(sorted(seen_before(state)))
        self.perception = load_perception(WorldModelRecipe(**state["recipe"])).to(device)
        require(policy.vocabulary.words == tuple(state["words"]) or list(policy.vocabulary.words) == state["words"],
                "vocabulary", policy.vocabulary.words, "the world model's")  # fmt: skip
        self.policy, self.vocabulary, self._spec = net, policy.vocabulary, spec
        low, high = (np.array(state["action_bins"][name]) for name in ("low", "high"))
        self.bins = ActionBins(low, high)
        said = state["normalisation"]
        self._mean, self._std = (np.array(said[f"proprio_{name}"], np.float32) for name in ("mean", "std"))
        norm = {name: np.array(value, np.float32) for name, value in policy.manifest["normalisation"].items()}
        self._norm = norm
        cost, (scale, shift) = calibration["cost"], calibration["outcome"]
        self._cost = float(cost[0]), float(cost[1])  # scale and shift of logits
        self._done, self._success, self._to_go = ((float(scale[i]), float(shift[i])) for i in (0, 2, value))
        self._value = value
        self._gate = Gate(spec)
        self._reach = policy.manifest["gripper"]["speed"] * policy.manifest["row_period"]
        self._range = tuple(policy.manifest["gripper"]["range"])
        self._kinematics = Kinematics(spec)

    def read(self, files: list[Path]) -> tuple[States, Rollouts]:
        """All looks of rollouts; ``prefix`` from the candidates on the tape, where there are any."""
        data = Rollouts(files, self._spec, self.vocabulary, self.bins)
        eyes, latents = perceive(self.perception, data)
        views = []
        with torch.no_grad():
            for begin in range(0, len(data), BATCH):
                part = slice(begin, begin + BATCH)
                seen = (torch.from_numpy(view[part]).to(self._device) for view in data.pictures)
                head, wrist = (view.permute(0, 3, 1, 2).float() for view in seen)
                gist = self.policy.read(torch.from_numpy(data.words[part]).to(self._device))[1]
                views.append(torch.cat(self.policy.look(head, wrist, gist), 1).half())
        n = len(self._spec.joints)
        joints, gripper = data.proprio[:, :n], data.proprio[:, 2 * n]
        body = (data.proprio[:, : 2 * n + 1] - self._norm["proprio_mean"]) / self._norm["proprio_std"]
        rows, free = self._prefixes(files, joints)
        proprio = (data.proprio - self._mean) / self._std
        arrays = (body, eyes, latents, proprio, joints, gripper, rows, free)
        words, *read = (torch.from_numpy(np.ascontiguousarray(array)) for array in (data.words, *arrays))
        columns = (torch.arange(len(data)), words, torch.cat(views), *read)
        return States(*(column.to(self._device) for column in columns)), data

    def located(self, states: States) -> Tensor:
        """Object, goal, both relative to the tool (N, 12) [units of 5 cm], as the world model sees them."""
        with torch.no_grad():
            parts = [self._observe(states.at(part))[3] for part in torch.arange(len(states)).split(BATCH)]
        return torch.cat(parts)

    def _observe(self, states: States) -> tuple[Tensor, ...]:
        seen = (states.eyes, states.latents, states.proprio)
        return self.net.observe(states.words, *(array.float() for array in seen))

    def _prefixes(self, files: list[Path], joints: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Committed rows (N, H, A), standardised, and which rows are free (N, H)."""
        horizon, width = self._norm["action_mean"].shape
        rows, free = np.zeros((len(joints), horizon, width), np.float32), np.ones((len(joints), horizon), np.float32)
        base = 0
        for file in files:
            with np.load(file) as episode:
                candidates, count = episode["candidates"], len(episode["at"])
            if candidates.shape[1] > 1:
                same = np.abs(candidates - candidates[:, :1]).max((1, 3)) < SAME
                committed = np.cumprod(same, 1).astype(bool)
                part = slice(base, base + count)
                free[part] = ~committed
                plan = candidates[:, 0].copy()
                plan[..., :-1] -= joints[part, None]
                standard = (plan - self._norm["action_mean"]) / self._norm["action_std"]
                rows[part] = np.where(committed[..., None], standard, 0.0)
            base += count
        return rows, free

    def standardised(self, data: Rollouts, index: Tensor) -> Tensor:
        """Chunks (., H, A) executed from looks ``index``, as the policy would give them."""
        wide = len(self._spec.joints) + 1
        rows = data.rows[index.numpy()][..., :wide]
        standard = ((rows - self._norm["action_mean"]) / self._norm["action_std"]).astype(np.float32)
        return torch.from_numpy(standard).to(self._device)

    def common_tails(self, rows: Tensor, states: States, executed: int, group: int) -> tuple[Tensor, Tensor]:
        """Chunks whose rows beyond those that will be driven go on as the first of their group does.

        The world model judges whole chunks; without this, a policy would be taught by rows that the next chunk
        replaces. Returns the chunks (B, H, A), and (B, H) 1 where a row is free and driven.
        """
        first = (states.free > 0).float().argmax(1)
        place = torch.arange(rows.shape[1], device=rows.device)
        tail = place >= first[:, None] + executed
        mean, std = (torch.from_numpy(self._norm[f"action_{name}"]).to(rows.device) for name in ("mean", "std"))
        actions = rows * std + mean
        pivot = (first + executed - 1).clamp(max=rows.shape[1] - 1)[:, None, None].expand(-1, 1, rows.shape[2])
        leader = actions.unflatten(0, (-1, group))[:, :1].expand(-1, group, -1, -1).flatten(0, 1)
        joined = actions.gather(1, pivot) + leader - leader.gather(1, pivot)
        spliced = torch.where(tail[..., None], joined, actions)
        return (spliced - mean) / std, states.free * ~tail

    def judge(self, states: States, rows: Tensor) -> Judged:
        """What chunks ``rows`` (B, H, A), as the policy gives them, lead to: one evaluation, no pictures.

        A whole number of chunks for each of ``states``, those of a state side by side.
        """
        count, group = len(rows), len(rows) // len(states)
        bins, unfit = self._bins(states.at(torch.arange(len(states)).repeat_interleave(group)), rows)
        nothing = torch.zeros(count, 1, *states.latents.shape[1:], device=self._device)
        known, level = nothing.new_ones(count, 1), nothing.new_ones(nothing.shape[:3])
        with torch.no_grad(), reduced(self._device):
            context = [part.repeat_interleave(group, 0) for part in self._observe(states)[:3]]
            _, _, outcome, cost, _ = self.net.imagine(context, bins[:, None], known, nothing, level)
        soon, well, done, hit = (
            (scale * logit.float() + shift).sigmoid()
            for logit, (scale, shift) in (
                (outcome[:, :, 0, self._value], self._to_go), (outcome[:, :, 0, 2], self._success),
                (outcome[:, :, 0, 0], self._done), (cost[:, :, 0], self._cost),
            )
        )  # fmt: skip
        to_go = -HALF_TIME * torch.log2(soon.clamp(min=SHORTEST))
        return Judged(to_go, hit.mean(0), well.mean(0), done.mean(0), unfit)

    @torch.no_grad()
    def ahead(
        self, states: States, rows: Tensor, flow_steps: int, group: int = 1, interleaved: bool = True
    ) -> tuple[States, tuple[Tensor, ...]]:
        """What is seen at the end of chunks ``rows`` (B, H, A), one for each of ``states``: the slow mode.

        The head view is imagined first and the wrist view given it, unless they are not ``interleaved``, each in
        ``flow_steps``; those of a ``group`` side by side begin with the same noise. Nothing is committed there.

        Returns:
            the observations, whose ``row`` is none of the log's, and their pictures, (B, S, S, 3) uint8 each.
        """
        latents, proprio = self._imagined(states, rows, flow_steps, group, interleaved)
        with reduced(self._device):
            decoded = self.perception.autoencoder.decode(latents.flatten(0, 1)).float().unflatten(0, (-1, 2))
        seen = ((decoded + 1.0) * 127.5).clamp(0, 255).round()
        head, wrist = seen[:, 0], seen[:, 1]
        with reduced(self._device):
            eyes = self.perception.points(head, wrist, states.words).float()
            views = torch.cat(self.policy.look(head, wrist, self.policy.read(states.words)[1]), 1)
        n = len(self._spec.joints)
        mean, std, body_mean, body_std = (
            torch.from_numpy(array).to(self._device)
            for array in (self._mean, self._std, self._norm["proprio_mean"], self._norm["proprio_std"])
        )
        measured = proprio * std + mean
        body = (measured[:, : 2 * n + 1] - body_mean) / body_std
        nothing, nowhere = torch.zeros_like(states.prefix), torch.full_like(states.row, -1)
        there = States(
            nowhere, states.words, views.half(), body, eyes.half(), latents.half(), proprio, measured[:, :n],
            measured[:, 2 * n], nothing, torch.ones_like(states.free),
        )  # fmt: skip
        return there, tuple(view.permute(0, 2, 3, 1).to(torch.uint8) for view in (head, wrist))

    def _imagined(
        self, states: States, rows: Tensor, flow_steps: int, group: int, interleaved: bool
    ) -> tuple[Tensor, Tensor]:
        """Latents (B, VIEWS, TOKENS, latent) and standardised proprioception (B, P) at the end of chunks."""
        bins, now = self._bins(states, rows, fit=False)[0][:, None], states.latents.float()
        noise = torch.randn(len(now) // group, 1, *now.shape[1:], device=self._device)
        x, known = noise.repeat_interleave(group, 0), noise.new_ones(len(now), 1)
        with reduced(self._device):
            context = self._observe(states)[:3]
            for view in (0, 1):  # the one that is not at work is unknown first, then known
                for step in range(flow_steps):
                    before, after = 1.0 - step / flow_steps, 1.0 - (step + 1) / flow_steps
                    given = 0.0 if interleaved else 1.0
                    level = noise.new_tensor([[before, 1.0] if view == 0 else [given, before]]).expand(len(now), 1, 2)
                    found = self.net.imagine(context, bins, known, x, level)[0].float()
                    # Euler along v = (x_t - x_0) / t.
                    x[:, :, view] = (after / before) * x[:, :, view] + (1.0 - after / before) * found[:, :, view]
            moved = self.net.imagine(context, bins, known, x, torch.zeros_like(level))[1].float()
        return now + x[:, 0], states.proprio + moved[:, 0]

    def admission(self, states: States, data: Rollouts, index: NDArray[np.int64]) -> Admission:
        """How the world model does on the chunks that were executed from looks ``index`` of the log."""
        parts = torch.from_numpy(index).split(BATCH)
        found = [self.judge(states.at(part), self.standardised(data, part)).success for part in parts]
        ended_well = np.array([fact["success"] for fact in data.facts])[data.episode[index]]
        return Admission.of(torch.cat(found).cpu().numpy().astype(np.float64), ended_well)

    def _bins(self, states: States, rows: Tensor, fit: bool = True) -> tuple[Tensor, Tensor]:
        """Integers (B, H, A) of chunks, after what the runtime does to them: prefix kept, opening within its range.

        And whether the gate would refuse them; with ``fit`` False nobody asks it.
        """
        states = states.to(CPU)
        actions = rows.cpu().numpy() * self._norm["action_std"] + self._norm["action_mean"]
        joints = states.joints.numpy().astype(np.float64)
        positions = actions[..., :-1] + joints[:, None]
        opening = rate_limited(
            np.clip(actions[..., -1], *self._range), np.clip(states.gripper.numpy(), *self._range),
            states.free.numpy() > 0, self._reach,
        )  # fmt: skip
        n = joints.shape[1]
        self._kinematics.place(np.concatenate([joints, positions.reshape(-1, n)]))
        tool = self._kinematics.tool
        now, ways = tool[: len(joints)], tool[len(joints) :].reshape(*positions.shape[:2], 3)
        bins = self.bins.bins(action_rows(positions, opening, ways, joints, now)).astype(np.int64)
        unfit = self._unfit(states, positions, opening) if fit else np.zeros(len(rows), bool)
        return torch.from_numpy(bins).to(self._device), torch.from_numpy(unfit).to(self._device)

    def _unfit(self, states: States, positions: NDArray[np.float64], opening: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(B,) whether the gate refuses the rows (B, H, n), (B, H): with all its checks, as before a first motion."""
        spec, n = self._spec, len(self._spec.joints)
        velocities = (states.proprio.numpy() * self._std + self._mean)[:, n : 2 * n].astype(np.float64)
        joints, gripper = states.joints.numpy().astype(np.float64), states.gripper.numpy()
        committed = (states.free.numpy() == 0).sum(1)
        bad = np.zeros(len(positions), bool)
        for i, rows in enumerate(positions):
            chunk = ActionChunk(
                chunk_set_id=1, candidate=0, observation_stamp=1, expiry=1 + len(rows) * spec.row_period,
                action_type=ActionType.JOINT_POSITION, joint_names=spec.joints, reference=joints[i],
                row_period=spec.row_period, positions=rows, gripper=opening[i].astype(np.float64),
                committed_rows=int(committed[i]),
            )  # fmt: skip
            state = RobotState(1, joints[i], velocities[i], float(gripper[i]))
            bad[i] = not isinstance(self._gate.vet(chunk, state, None, 1), JointRows)
        return bad

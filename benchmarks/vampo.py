"""What does denoiser post-training do to the world model? Runs against the one they started from, at test seeds.

Latents: dreams of one chunk against the logged future, mean absolute error and cosine, of the latents and of their
change. Pictures: the same, decoded. Effective rank (training/effective_rank.py): of the Jacobian of imagined latents
with respect to the chunk's actions, and of a linear readout of the actions from imagined latents, fitted on half of the
rollouts, with the share of the actions' variance that it explains on the other half. Fast mode: ranking of looks by
success and cost, and the choice among branched candidates.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import parser, write
from benchmarks.imagination_quality import errors
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.actions import ActionBins
from vla_mbpo.imagination.network import BINS, VIEWS, WorldModel
from vla_mbpo.imagination.perception import Perception
from vla_mbpo.paths import robot_dir
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.tasks import TASKS
from vla_mbpo.training.calibration import tried_predictions
from vla_mbpo.training.denoising import evaluate, imagined
from vla_mbpo.training.effective_rank import effective_rank, readout, response
from vla_mbpo.training.judge import interval_by_group, roc_auc
from vla_mbpo.training.precision import CPU, reduced
from vla_mbpo.training.rollout_data import Branches, Rollouts
from vla_mbpo.training.tried import Tried, gain
from vla_mbpo.training.world_model import WorldModelRecipe, load_perception, load_world_model, perceive

NAMES = ("head", "wrist")
PER_ROLLOUT = 2  # looks that are dreamt from and decoded
BATCH = 64


class Looks:
    """Looks of held-out rollouts before the task was done, as the world models read them."""

    def __init__(self, files: list[Path], state: dict[str, Any], perception: Perception, spec: RobotSpec) -> None:
        words = Vocabulary.of([task.instruction for task in TASKS.values()])
        bins = ActionBins(*(np.array(state["action_bins"][name]) for name in ("low", "high")))
        self.data = Rollouts(files, spec, words, bins)
        mean, std = (np.array(state["normalisation"][f"proprio_{name}"], np.float32) for name in ("mean", "std"))
        eyes, latents = perceive(perception, self.data)
        self.seen = [torch.from_numpy(x) for x in (self.data.words, eyes, latents, (self.data.proprio - mean) / std)]
        self.bins = torch.from_numpy(self.data.bins.astype(np.int64))
        done = np.array([fact["success_row"] for fact in self.data.facts])[self.data.episode]
        self.open = np.flatnonzero((done < 0) | (self.data.at < done))
        self.followed = self.open[self.data.seen[self.open, 0]]

    def inputs(self, index: NDArray[np.int64]) -> list[torch.Tensor]:
        """Of ``WorldModel.observe``."""
        return [x[index] if x.dtype == torch.int64 else x[index].float() for x in self.seen]

    def drawn(self, count: int) -> NDArray[np.int64]:
        """So many followed looks of each rollout, always the same ones."""
        rng, episode = np.random.default_rng(0), self.data.episode[self.followed]
        return np.concatenate([rng.permutation(self.followed[episode == e])[:count] for e in np.unique(episode)])

    def future(self, index: NDArray[np.int64]) -> torch.Tensor:
        """Latents at the end of the chunk (N, VIEWS, TOKENS, latent)."""
        return self.seen[2][self.data.follower[index, 0]].float()


@torch.no_grad()
def dreams(net: WorldModel, looks: Looks, index: NDArray[np.int64], steps: int) -> torch.Tensor:
    """Latents (N, VIEWS, TOKENS, latent) at the end of the chunk, from the same noise for every model."""
    noise = torch.randn(len(index), *looks.seen[2].shape[1:], generator=torch.Generator().manual_seed(0))
    found = []
    for begin in range(0, len(index), BATCH):
        part = index[begin : begin + BATCH]
        inputs = looks.inputs(part)
        context = net.observe(*inputs)[:3]
        found.append(inputs[2] + imagined(net, context, looks.bins[part], noise[begin : begin + BATCH], steps))
    return torch.cat(found)


@torch.no_grad()
def at_once(net: WorldModel, looks: Looks, index: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
    """The fast mode: change of latents (N, .), probability of success and of cost before calibration (N,)."""
    moved, success, cost = [], [], []
    for begin in range(0, len(index), BATCH):
        part = index[begin : begin + BATCH]
        inputs = looks.inputs(part)
        with reduced(CPU):
            context = net.observe(*inputs)[:3]
            nothing = torch.zeros_like(inputs[2])
            found = evaluate(net, context, looks.bins[part], nothing, torch.ones_like(nothing[..., 0, 0]))
        moved.append(found[0][:, 0].flatten(1).float().numpy())
        success.append(found[2][:, :, 0, 2].float().sigmoid().mean(0).numpy())
        cost.append(found[3][:, :, 0].float().sigmoid().mean(0).numpy())
    return np.concatenate(moved), np.concatenate(success), np.concatenate(cost)


def of_dreams(net: WorldModel, looks: Looks, perception: Perception, index: NDArray, steps: int) -> dict[str, NDArray]:
    """Errors of each dream (N,), by name."""
    seen, real, now = dreams(net, looks, index, steps), looks.future(index), looks.inputs(index)[2]
    found: dict[str, NDArray] = {}
    after = looks.data.follower[index, 0]
    for v, view in enumerate(NAMES):
        a, b, start = (x[:, v].flatten(1) for x in (seen, real, now))
        found[f"{view}_latent_l1"] = (a - b).abs().mean(1).numpy()
        found[f"{view}_latent_cosine"] = torch.cosine_similarity(a, b).numpy()
        found[f"{view}_change_cosine"] = torch.cosine_similarity(a - start, b - start).numpy()
        with torch.no_grad():
            parts = [perception.autoencoder.decode(part) for part in seen[:, v].split(BATCH)]
        pictures = ((torch.cat(parts) + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
        pairs = [errors(looks.data.pictures[v][j], picture) for j, picture in zip(after, pictures, strict=True)]
        found[f"{view}_mse"], found[f"{view}_one_minus_ssim"] = np.array(pairs).T
    return found


def of_actions(net: WorldModel, looks: Looks, index: NDArray) -> dict[str, NDArray]:
    """Effective rank of the response to the actions at each look (N,), of both views together and of each."""
    found: dict[str, list[float]] = {f"response_rank{name}": [] for name in ("", "_head", "_wrist")}
    for i in index:
        with torch.no_grad():
            context = net.observe(*looks.inputs(np.array([i])))[:3]
        jacobian = response(net, context, looks.bins[i])
        parts = (jacobian, *np.split(jacobian, VIEWS))
        for name, part in zip(found, parts, strict=True):
            found[name].append(effective_rank(part))
    return {name: np.array(values) for name, values in found.items()}


def read_back(moved: NDArray, actions: NDArray, group: NDArray[np.int64]) -> dict[str, float]:
    """Readout of actions (N, A) fitted on half of the rollouts: its rank, and R squared on the other half."""
    ranks, explained = [], []
    for half in (0, 1):
        learn = group % 2 == half
        weights = readout(moved[learn], actions[learn])
        said = (moved[~learn] - moved[learn].mean(0)) @ weights + actions[learn].mean(0)
        away = actions[~learn] - actions[~learn].mean(0)
        ranks.append(effective_rank(weights))
        explained.append(1 - ((actions[~learn] - said) ** 2).sum() / (away**2).sum())
    return {"readout_rank": round(float(np.mean(ranks)), 3), "readout_r2": round(float(np.mean(explained)), 4)}


def judged(net: WorldModel, looks: Looks, tried: Tried) -> tuple[dict[str, Any], NDArray]:
    """The fast mode on looks and on branched candidates, ``read_back`` of what it imagines; values (N, B)."""
    data, index = looks.data, looks.open
    moved, success, cost = at_once(net, looks, index)
    soon, hit = tried_predictions(net, tried, np.arange(len(tried.branches)), torch.device("cpu"))
    likely, costed = data.outcome[index][:, 0, 2] > 0, data.costed[index][:, 0]
    choice = gain(soon, hit, tried.branches, np.arange(len(tried.branches)))
    actions = data.bins[index].reshape(len(index), -1) / BINS
    found = {
        "looks": len(index),
        "success_auc": round(roc_auc(success, likely), 4),
        "cost_auc": round(roc_auc(cost[costed], data.cost[index][costed, 0] > 0), 4),
        "choice": choice,
        **read_back(moved, actions, data.episode[index]),
    }
    return found, soon.mean(0)


def agreement(before: NDArray, after: NDArray) -> dict[str, float]:
    """How alike two models value the candidates (N, B) of a look, which is what dream RL reads.

    Correlation of the logits' differences from the mean of their look, and share of looks with the same best one.
    """
    a, b = (x - x.mean(1, keepdims=True) for x in (before, after))
    same = float((before.argmax(1) == after.argmax(1)).mean())
    return {"correlation": round(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), 5), "same_best": round(same, 4)}


def compared(before: dict[str, NDArray], after: dict[str, NDArray], group: NDArray[np.int64]) -> dict[str, Any]:
    """Mean of each quantity before and after, their ratio and its 95 % interval by bootstrap over rollouts."""
    table = {}
    for name, a in before.items():
        b = after[name]
        spread = interval_by_group(lambda i, a=a, b=b: b[i].mean() / a[i].mean(), group)
        ratio = round(float(b.mean() / a.mean()), 4)
        table[name] = [round(float(a.mean()), 5), round(float(b.mean()), 5), ratio, spread]
    return table


def main() -> None:
    """Dream with every run, compare, write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--before", type=Path, default=Path("models/training/world_model"), help="world-model run folder")
    cli.add_argument("--after", type=Path, nargs="+", required=True, help="run folders that started from it")
    cli.add_argument("--data", type=Path, default=Path("data/rollouts_test"))
    cli.add_argument("--branches", type=Path, default=Path("data/branches_fresh"), help="branched rollouts")
    cli.add_argument("--attempts", type=int, default=64, help="of the branched rollouts")
    cli.add_argument("--rollouts", type=int, default=160, help="rollouts of the training tasks")
    cli.add_argument("--ranked", type=int, default=40, help="rollouts, one look each, for the response to actions")
    cli.add_argument("--flow-steps", type=int, default=4)
    cli.add_argument("--threads", type=int, default=2)
    args = cli.parse_args()
    torch.set_num_threads(args.threads)
    files = [f for f in sorted(args.data.glob("*.npz")) if not any(t in f.name for t in TASKS if TASKS[t].held_out)]
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[: args.rollouts]]
    spec, (_, state) = RobotSpec.load(robot_dir("sim_panda")), load_world_model(args.before)
    perception = load_perception(WorldModelRecipe(**state["recipe"]))
    looks = Looks(files, state, perception, spec)
    words = Vocabulary.of([task.instruction for task in TASKS.values()])
    branched = sorted(args.branches.glob("*.npz"))
    branched = [branched[i] for i in np.random.default_rng(0).permutation(len(branched))[: args.attempts]]
    branches = Branches(branched, spec, words, looks.data.action_bins)
    mean, std = (np.array(state["normalisation"][f"proprio_{name}"], np.float32) for name in ("mean", "std"))
    tried = Tried(branches, *perceive(perception, branches), mean, std)
    index = looks.drawn(PER_ROLLOUT)
    few = looks.drawn(1)[: args.ranked]
    measured: dict[str, tuple] = {}
    for run in (args.before, *args.after):
        net, _ = load_world_model(run)
        each = of_dreams(net, looks, perception, index, args.flow_steps)
        measured[str(run)] = each, of_actions(net, looks, few), *judged(net, looks, tried)
        print(run, measured[str(run)][2], flush=True)
    metrics: dict[str, Any] = {"dreams": len(index), "rollouts": len(files), "ranked_looks": len(few)}
    metrics["fast"] = {run: found[2] for run, found in measured.items()}
    episode, before = looks.data.episode, measured[str(args.before)]
    for run in map(str, args.after):
        pairs = ((before[i], measured[run][i], episode[at]) for i, at in ((0, index), (1, few)))
        rows = [compared(*pair) for pair in pairs]
        metrics[f"values of candidates: {run}"] = agreement(before[3], measured[run][3])
        metrics[f"before, after, ratio, interval: {run}"] = rows[0] | rows[1]
    write("vampo", metrics, args.json)


if __name__ == "__main__":
    main()

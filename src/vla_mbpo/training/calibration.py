"""What a trained world model is given to be read by: constants of its probabilities, and how unlike training a view is.

Written into the run's folder; ``train export`` puts it into the bundle.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from vla_mbpo.core.errors import require
from vla_mbpo.imagination.familiar import Familiar
from vla_mbpo.imagination.network import WorldModel
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.training.judge import platt
from vla_mbpo.training.loop import CALIBRATION
from vla_mbpo.training.precision import reduced
from vla_mbpo.training.tried import Tried, compared, gain

if TYPE_CHECKING:
    from vla_mbpo.training.world_model import Trainer

FAMILIAR = "familiar.safetensors"  # beside the checkpoint, as CALIBRATION
VALUE = 3  # of the outcomes, the one that candidates are ranked by: the time that who can do the task would take ...
OWN = 1  # ... and where no expert has ever gone on from what was logged, the time that who drove took
RARE = 0.999  # share of the validation looks that are within ``strange_limit`` and ``uncertainty_limit``, before ...
MARGIN = 1.3  # ... this factor
LEAST = 40  # attempts with labels; a fit to fewer is worse than the constants of ``init``, which stay
LEAST_TRIED = 10  # likewise, scenes with branches that were driven to their end: each has every candidate of many looks
Logits = NDArray[np.float64]


def calibrate(trainer: "Trainer", net: WorldModel) -> None:
    """Fit on validation looks and write CALIBRATION and FAMILIAR.

    ``outcome``, ``cost``: scale and shift of the fast mode's logits; ``slow_outcome``, ``slow_cost``: of what is read
    off imagined images, as a dream does. They are fitted in half of the scenes, ``trainer.calibration``: the other half
    has to check them where dream RL learns from the same log (training/logged.py). The value's are fitted to branches,
    in all of the scenes, where these are enough; ``choice``: see ``gain``; ``value``: which outcome ranks candidates.
    """
    index = trainer.validation
    fast, slow = predictions(trainer, net, index), predictions(trainer, net, index, slow=True)
    found: dict[str, Any] = {}
    before = started_from(trainer.recipe.init) or {}
    least = LEAST if before else 1
    for name, (outcome, cost) in (("", fast), ("slow_", slow)):
        kept = np.array(before.get(f"{name}outcome", [[1.0] * 4, [0.0] * 4])).T.tolist()
        kept.append(before.get(f"{name}cost", [1.0, 0.0]))
        fitted = _constants(trainer, np.concatenate([outcome, cost[..., None]], -1), kept, least)
        found[f"{name}outcome"], found[f"{name}cost"] = np.array(fitted[:4]).T.tolist(), fitted[4]
    known = not trainer.unsaid[VALUE] or (bool(before) and before.get("value", VALUE) == VALUE)
    found["value"] = VALUE if known else OWN
    if trainer.tried is not None:
        tried, branches = trainer.tried_validation, trainer.tried.branches
        soon, hit = tried_predictions(net, trainer.tried, tried, trainer.device)
        timed = branches.finished[tried]
        if len(np.unique(branches.seed[tried][timed])) >= (LEAST_TRIED if before else 1):
            wanted = branches.to_go[tried][timed].ravel().astype(float)
            scale, shift = platt(soon[:, timed].reshape(len(soon), -1), wanted)
            found["outcome"][0][VALUE], found["outcome"][1][VALUE] = scale, shift
        found["choice"] = gain(soon, hit, branches, tried)
    likely = 1 / (1 + np.exp(-fast[0][..., 2] * found["outcome"][0][2] - found["outcome"][1][2]))
    vetted = np.array([bool(fact["policy"]) for fact in trainer.rollouts.facts])[trainer.rollouts.episode[index]]
    usual = vetted if vetted.any() else ~vetted  # what is vetted are policies; random motion leads to other pictures
    found["uncertainty_limit"] = round(MARGIN * float(np.quantile(likely.mean(2).std(0)[usual], RARE)), 4)
    familiar = Familiar.fit(trainer.latents[trainer.train].cpu())
    strange = familiar(trainer.latents[index[usual]].float().cpu()).numpy()
    found["strange_limit"] = [round(MARGIN * float(x), 3) for x in np.quantile(strange, RARE, axis=0)]
    save_file({k: v.contiguous() for k, v in familiar.state_dict().items()}, trainer.out / FAMILIAR)
    (trainer.out / CALIBRATION).write_text(json.dumps(found, indent=1) + "\n")


def constants(name: str) -> dict[str, Any]:
    """What ``calibrate`` found, of a run folder that holds it or of a world model's bundle. ConfigError if neither."""
    file = Path(name) / CALIBRATION
    return json.loads(file.read_text()) if file.is_file() else Bundle.load(bundle_dir(name)).manifest["calibration"]


def started_from(init: str) -> dict[str, Any] | None:
    """Constants of the run folder that a run starts from; None where it does not, or those are not there."""
    file = Path(init) / CALIBRATION
    return json.loads(file.read_text()) if init and file.is_file() else None


def load_calibration(run: Path) -> tuple[dict[str, Any], Familiar]:
    """What ``calibrate`` has written into a run's folder.

    ConfigError: it is a kept run, which has the network alone.
    """
    require((run / FAMILIAR).is_file(), "--run", str(run), f"a run that learned here: a kept one has no {FAMILIAR}")
    tensors = load_file(run / FAMILIAR)
    views, _, size = tensors["mean"].shape
    familiar = Familiar(views, size)
    familiar.load_state_dict(tensors)
    return json.loads((run / CALIBRATION).read_text()), familiar.eval()


def predictions(
    trainer: "Trainer", net: WorldModel, index: NDArray[np.int64], slow: bool = False
) -> tuple[Logits, Logits]:
    """Logits of outcome (E, N, S, 4) and cost (E, N, S) in the fast mode: one evaluation, no second chunk.

    ``slow``: read again with what was imagined in the images' place.
    """
    outcomes, costs = [], []
    with torch.no_grad(), reduced(trainer.device):
        for begin in range(0, len(index), 256):
            part = torch.from_numpy(index[begin : begin + 256]).to(trainer.device)
            context = net.observe(*trainer.inputs(part))[:3]
            bins = trainer.futures(part)[0]
            known = torch.tensor([[1.0, 0.0]], device=trainer.device).expand(len(part), -1)
            noisy = torch.zeros(len(part), net.config.steps, 2, *trainer.latents.shape[2:], device=trainer.device)
            level = torch.ones_like(noisy[..., 0, 0])
            found = net.imagine(context, bins, known, noisy, level)
            if slow:
                found = net.imagine(context, bins, known, found[0].float(), torch.zeros_like(level))
            outcomes.append(found[2].float().cpu().numpy())
            costs.append(found[3].float().cpu().numpy())
    return np.concatenate(outcomes, 1).astype(np.float64), np.concatenate(costs, 1).astype(np.float64)


def _constants(trainer: "Trainer", logits: Logits, kept: list[list[float]], least: int) -> list[list[float]]:
    """Scale and shift of each outcome's logits and of cost's (E, N, S, 5); as ``kept`` where too few know better."""
    data, index = trainer.rollouts, trainer.validation
    mine = np.isin(index, trainer.calibration)[:, None, None]
    labels = np.concatenate([data.outcome[index], data.cost[index][..., None]], -1).astype(np.float64)
    known = np.concatenate([data.labelled[index], data.costed[index][..., None]], -1) & mine
    found = []
    for head, stays in enumerate(kept):
        keep = known[..., head]
        attempts, both = len(np.unique(data.episode[index][keep.any(1)])), len(np.unique(labels[..., head][keep])) > 1
        enough = attempts >= least and both  # a fit to one outcome says that one of everything
        found.append(list(platt(logits[..., head][:, keep], labels[..., head][keep])) if enough else stays)
    return found


def tried_predictions(
    net: WorldModel, tried: Tried, index: NDArray[np.int64], device: torch.device
) -> tuple[Logits, Logits]:
    """Logits (E, N, B) of the value and of a cost event of the candidates that were tried at looks ``index``."""
    parts = []
    with torch.no_grad(), reduced(device):
        for begin in range(0, len(index), 64):
            seen, bins, *_ = tried.batch(index[begin : begin + 64], device)
            parts.append([x.double().cpu().numpy() for x in compared(net, seen, bins)])
    soon, hit = (np.concatenate(column, 1) for column in zip(*parts, strict=True))
    return soon, hit

"""``vla-mbpo train autoencoder``: the world model's image autoencoder, on pictures of rollouts and demos."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vla_mbpo.core.errors import require
from vla_mbpo.imagination.autoencoder import Autoencoder, AutoencoderConfig
from vla_mbpo.training.episodes import check_scenes, rollout_files
from vla_mbpo.training.loop import Loop, averaged
from vla_mbpo.training.precision import reduced


@dataclass(frozen=True)
class AutoencoderRecipe:
    """``samples`` counts pictures seen. ``noise``: on the latents, so that nearby latents decode to like pictures."""

    data: tuple[str, ...]
    pictures: int = 60_000  # kept in memory, half of each view
    samples: int = 300_000
    batch: int = 48
    learning_rate: float = 1.5e-3
    warmup: int = 200
    ema: float = 0.995
    noise: float = 0.05
    init: str = ""  # run folder to start from
    contrast: float = 3.0  # weight of what differs from its surroundings: without it small objects vanish
    edges: float = 1.0  # weight of the error of differences between neighbouring pixels
    brightness: float = 0.15
    robot: str = "sim_panda"  # whose recordings are read
    seed: int = 0
    threads: int = 2
    device: str = "cpu"


class Trainer(Loop):
    """Trains one autoencoder; ``run`` checkpoints under ``out`` and sets the latents' mean and deviation at the end."""

    net: Autoencoder

    def __init__(self, config: AutoencoderRecipe, out: Path) -> None:
        """ConfigError if there are no pictures."""
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self._pictures = _pictures(config)
        net = Autoencoder(AutoencoderConfig(image_size=self._pictures.shape[1]))
        if config.init:
            net.load_state_dict(load_autoencoder(Path(config.init)).state_dict())
            net.mean, net.std = torch.zeros_like(net.mean), torch.ones_like(net.std)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(config, net, out, len(self._pictures), self._loss, self._facts, device=config.device)
        self.recipe = config

    def run(self, resume: bool = False) -> None:
        """Train to the end, then standardise the latents."""
        super().run(resume)
        self.net.load_state_dict(self.average)
        self.net.standardise(encode(self.net, self._pictures[:: max(1, len(self._pictures) // 4000)]))
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.save()

    def _loss(self, index: np.ndarray) -> dict[str, Tensor]:
        x = torch.from_numpy(self._pictures[index]).to(self.device).permute(0, 3, 1, 2).float()
        gain = 1 + self.recipe.brightness * (2 * torch.rand(len(x), 1, 1, 1, device=self.device) - 1)
        x = (x * gain).clamp(0, 255).contiguous(memory_format=torch.channels_last)
        with reduced(self.device):
            z = self.net.encode(x)
            y = self.net.decode(z + self.recipe.noise * z.detach().std() * torch.randn_like(z))
        x, y = x / 127.5 - 1.0, y.float()
        edges = sum(functional.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
        spread = z.float().flatten(0, 1).std(0)  # a scale for the noise to count against
        return {
            "pixels": ((y - x).abs() * prominence(x, self.recipe.contrast)).mean(),
            "edges": self.recipe.edges * torch.as_tensor(edges),
            "scale": 0.01 * (spread - 1.0).square().mean(),
        }

    def _facts(self) -> dict[str, Any]:
        return {"recipe": asdict(self.recipe), "autoencoder": self.net.config.to_dict()}


def prominence(x: Tensor, contrast: float) -> Tensor:
    """Weights (B, 1, s, s) of the pixels of pictures (B, 3, s, s): more where they differ from their surroundings."""
    salient = (x - functional.avg_pool2d(x, 15, 1, 7, count_include_pad=False)).abs().mean(1, keepdim=True)
    return 1 + contrast * salient / salient.mean((2, 3), keepdim=True).clamp(min=1e-3)


def encode(net: Autoencoder, pictures: np.ndarray, batch: int = 256) -> Tensor:
    """Latents (N, TOKENS, latent) of pictures (N, s, s, 3) uint8, on the network's device."""
    parts, device = [], net.mean.device
    with torch.no_grad(), reduced(device):
        for begin in range(0, len(pictures), batch):
            x = torch.from_numpy(pictures[begin : begin + batch]).to(device).permute(0, 3, 1, 2).float()
            parts.append(net.encode(x.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)


def load_autoencoder(run: Path) -> Autoencoder:
    """The averaged network of a training run, in evaluation mode."""
    tensors, state = averaged(run)
    net = Autoencoder(AutoencoderConfig.from_dict(state["autoencoder"]))
    net.load_state_dict(tensors)
    return net.eval()


def _pictures(config: AutoencoderRecipe) -> np.ndarray:
    """As many pictures as wanted, evenly over all files, (N, s, s, 3) uint8.

    ConfigError: there are no files, or some are of scenes that are not to be learned from.
    """
    files = rollout_files(config.data, config.robot)
    require(bool(files), "data", list(config.data), "folders with rollouts or demonstrations")
    rng, each = np.random.default_rng(config.seed), max(1, round(config.pictures / 2 / len(files)))
    files = [files[i] for i in rng.permutation(len(files))[: config.pictures // 2]]
    parts, facts = [], []
    for file in files:
        with np.load(file) as episode:
            source = str(episode["source"]) if "source" in episode else ""
            facts.append({"source": source, "seed": int(episode["seed"])})
            chosen = rng.permutation(len(episode["at"]))[:each]
            parts += [episode["head"][chosen], episode["wrist"][chosen]]
    check_scenes(facts)
    return np.concatenate(parts)

"""Inverse dynamics: what motion of the tool is seen between two looks. Trained on real pictures, read from any."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class InverseDynamics(torch.nn.Module):
    """Both views before and after (B, 12, s, s) -> motion of the tool (B, 3) [dm]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for before, after in ((12, 32), (32, 48), (48, 64), (64, 64)):
            layers += [torch.nn.Conv2d(before, after, 3, 2, 1), torch.nn.GroupNorm(8, after), torch.nn.GELU()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * 36, 3))

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 2, s, s, 3) uint8."""
        x = torch.cat([before, after], 1).permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 127.5 - 1
        return self.net(x)


def learn(found: list[tuple[Any, Any, NDArray]], steps: int = 1500) -> InverseDynamics:
    """Fit to pairs of real pictures (2, s, s, 3), before and after, and motions (3,) [m]."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    before, after = (torch.from_numpy(np.stack([f[i] for f in found])) for i in (0, 1))
    motion = torch.from_numpy(np.stack([f[2] for f in found])).float() * 10
    net = InverseDynamics()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    for _ in range(steps):
        index = torch.randint(0, len(before), (64,))
        loss = torch.nn.functional.smooth_l1_loss(net(before[index], after[index]), motion[index], beta=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def explained(net: InverseDynamics, before: Any, after: Any, motion: Any) -> float:
    """Share of the motion's variance that is read from the pictures (R squared)."""
    views = (torch.from_numpy(np.stack([np.stack(v) for v in x])) for x in (before, after))
    with torch.no_grad():
        read = net(*views).numpy() / 10
    wanted = np.array(motion)
    return round(float(1 - ((read - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum()), 4)

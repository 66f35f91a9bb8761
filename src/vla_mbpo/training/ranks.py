"""Several processes train one network: each has a share of every batch, gradients are averaged (torchrun, gloo)."""

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from vla_mbpo.core.errors import require

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's ``number`` among ``count``; with one of one, nothing below does anything. One thread."""

    number: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> "Ranks":
        """Wait for the others, if torchrun says that there are any (WORLD_SIZE)."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
            atexit.register(distributed.destroy_process_group)
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this one writes and prints."""
        return self.number == 0

    def check(self, batch: int) -> None:
        """ConfigError unless every rank gets as many samples of a batch: a mean of means is the mean only then."""
        require(batch % self.count == 0, "batch", batch, f"a multiple of the {self.count} processes that share it")

    def share(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's part of a batch that all of them drew alike."""
        return index[self.number :: self.count]

    def same(self, net: nn.Module, step: int) -> None:
        """All begin with what the first one has. ConfigError where another is at another step."""
        if self.count == 1:
            return
        steps = self.gathered([step])
        require(
            len(set(steps)) == 1, "--resume", steps, "a run folder that all processes see: each reads the checkpoint"
        )
        for value in net.state_dict().values():
            here = value.cpu()
            distributed.broadcast(here, 0)
            value.copy_(here)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients become their mean over the ranks; what no rank has a gradient of stays without one."""
        if self.count == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        used = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32)
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        some = [p for p, known in zip(trained, used.tolist(), strict=True) if known]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
        flat = torch.cat([grad.flatten().cpu() for grad in grads])
        distributed.all_reduce(flat)
        for p, part in zip(some, (flat / self.count).split([p.numel() for p in some]), strict=True):
            p.grad = part.view_as(p).to(p.device)

    def means(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the whole batch from those of the ranks' parts."""
        if self.count == 1:
            return losses
        flat = torch.stack([value.float().cpu() for value in losses.values()])
        distributed.all_reduce(flat)
        return dict(zip(losses, flat / self.count, strict=True))

    def gathered(self, mine: list[T]) -> list[T]:
        """What all ranks have, in turns: the first of each, then the second of each, … as ``share`` dealt them."""
        if self.count == 1:
            return mine
        lists: list[Any] = [None] * self.count
        distributed.all_gather_object(lists, mine)
        longest = max(len(one) for one in lists)
        return [one[i] for i in range(longest) for one in lists if i < len(one)]

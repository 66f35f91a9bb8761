"""Chunks at looks of a log that are learned from, drawn with their observations."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vla_mbpo.training.dream_world import States
from vla_mbpo.training.logged import Log, evenly

MOST = 7  # rows of clean prefix, in half of the chunks that have none; as in supervised finetuning


@dataclass(frozen=True)
class Batch:
    """Observations, chunks (B, H, A), rows (B, H) 1 where one counts, and whether chunks are good ones (B,)."""

    states: States
    chunks: Tensor
    rows: Tensor
    good: Tensor

    @classmethod
    def joined(cls, parts: list["Batch"]) -> "Batch":
        """One after the other."""
        columns = (torch.cat([getattr(p.states, field.name) for p in parts]) for field in fields(States))
        rest = (torch.cat([getattr(p, name) for p in parts]) for name in ("chunks", "rows", "good"))
        return cls(States(*columns), *rest)


@dataclass(frozen=True)
class Pool:
    """Chunks at looks of a log, on its device.

    Attributes:
        look: (M,) on the CPU.
        chunks: (M, H, A), as the policy gives them.
        rows: (M, H) 1 where a row counts.
        good: (M,) whether the chunk is one.
        fresh: (M,) whether no row had been committed by the policy: any first rows may stand for such ones.
        groups: per task, indices of chunks, on the CPU.
    """

    look: Tensor
    chunks: Tensor
    rows: Tensor
    good: Tensor
    fresh: Tensor
    groups: list[Tensor]

    @classmethod
    def of(
        cls, log: Log, look: Tensor, chunks: Tensor, rows: Tensor, good: bool | Tensor = False, fresh: bool = False
    ) -> "Pool":
        """Those of the chunks that have a row which counts, at looks of a task that was not done yet."""
        device, look = log.chunks.device, look.cpu()
        task = torch.full((len(log.states),), -1)
        for number, mine in enumerate(log.starts):
            task[mine.cpu()] = number
        kept = (rows.sum(1) > 0).cpu() & (task[look] >= 0)
        task, some = task[look[kept]], kept.nonzero()[:, 0]
        groups = [(task == number).nonzero()[:, 0] for number in task.unique()]
        told = good if isinstance(good, Tensor) else torch.full((len(look),), good)
        chunks, rows, told = (column.to(device)[some.to(device)] for column in (chunks, rows.float(), told))
        return cls(look[kept], chunks, rows, told, torch.full((len(some),), fresh, device=device), groups)

    @classmethod
    def joined(cls, pools: list["Pool"], log: Log) -> "Pool":
        """One after the other."""
        names = ("look", "chunks", "rows", "good", "fresh")
        look, chunks, rows, good, fresh = (torch.cat([getattr(p, name) for p in pools]) for name in names)
        return replace(cls.of(log, look, chunks, rows, good), fresh=fresh)

    def __len__(self) -> int:
        return len(self.look)

    def draw(self, states: States, count: int) -> Batch:
        """``count`` of the chunks, each task with the same chance; ``states``: of the log."""
        chosen = evenly(self.groups, count)
        there = chosen.to(self.chunks.device)
        some, chunks, fresh = states.at(self.look[chosen]), self.chunks[there], self.fresh[there, None]
        if fresh.any():
            first = torch.randint(0, MOST + 1, (count, 1)) * (torch.rand(count, 1) < 0.5)
            free = (torch.arange(chunks.shape[1]) >= first).to(some.free)
            prefix = torch.where(fresh[..., None], chunks, some.prefix)
            some = replace(some, free=torch.where(fresh, free, some.free), prefix=prefix)
        return Batch(some, chunks, self.rows[there] * (some.free > 0), self.good[there])

"""A world for dream RL whose best chunk is known. Workers import it, so it is not in a file of tests."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from vla_mbpo.training.admission import Admission
from vla_mbpo.training.dream_world import Judged, States

N, H = 12, 16


class Looks:
    """Eyes that see how bright a picture is."""

    def points(self, head, wrist, _words):
        return torch.stack([view.mean((1, 2, 3))[:, None] / 100 for view in (head, wrist)], 1)


class Toy:
    """A world in which chunks are the better the closer they are to ``best``; every other attempt fails."""

    best, costly, unfit = 0.5, False, False
    later = False  # only the observation at a chunk's end tells how good it was
    trained_on = ("elsewhere",)
    admitted = Admission(100, 0.9, 0.0, 0.9)

    def __init__(self, _run, _vetting, policy, net, _spec, _device=None, _value=3):
        self.net, self.policy, self.perception = net, policy, Looks()
        self.words = torch.ones(N, policy.vocabulary.length, dtype=torch.int64)

    def read(self, _files):
        make = torch.Generator().manual_seed(0)
        width, action = self.net.config.width, self.net.config.action
        views, body = torch.randn(N, 4, width, generator=make), torch.randn(N, self.net.config.proprio, generator=make)
        free = torch.ones(N, H)
        free[:4, :3] = 0.0
        states = States(
            torch.arange(N), self.words, views.half(), body, torch.zeros(N, 2, 1),
            *(torch.zeros(N, 1) for _ in "lp"), torch.zeros(N, 7), torch.zeros(N),
            torch.zeros(N, H, action), free,
        )  # fmt: skip
        facts = [
            {
                "success": i % 2 == 0,
                "success_row": 40 if i % 2 == 0 else -1,
                "aborted": False,
                "task": "push",
                "policy": self.policy.version,
                "source": "few",
                "seed": i,
            }
            for i in range(N)
        ]
        whole, at, unaided = np.ones((N, 2), bool), np.zeros(N, np.int32), np.ones(N, bool)
        size = self.net.config.image_size
        pictures = tuple(np.full((N, size, size, 3), shade, np.uint8) for shade in (50, 90))
        return states, SimpleNamespace(
            facts=facts, episode=np.arange(N), whole=whole, at=at, unaided=unaided, pictures=pictures
        )

    def located(self, states):
        return torch.zeros(len(states), self.net.config.auxiliary)

    def standardised(self, _data, index):
        return torch.zeros(len(index), H, self.net.config.action)

    def common_tails(self, rows, states, _executed, _group):
        return rows, states.free

    def judge(self, states, rows):
        group = len(rows) // len(states)
        away = states.gripper.repeat_interleave(group) if self.later else self._away(states, rows)
        cost = (rows.mean((1, 2)) > 0).float() if self.costly else torch.zeros(len(rows))
        never, unfit = torch.zeros_like(cost), (rows.mean((1, 2)) > 0) & self.unfit
        return Judged(10 * away[None].expand(2, -1), cost, 1 - cost, never, unfit)

    def _away(self, states, rows):
        free = states.free.repeat_interleave(len(rows) // len(states), 0)
        return (((rows - self.best).square().mean(2)) * free).sum(1) / free.sum(1)

    def ahead(self, states, rows, _flow_steps, group=1, interleaved=True):
        size = self.net.config.image_size
        picture = torch.zeros(len(states), size, size, 3, dtype=torch.uint8)
        there = replace(states, gripper=self._away(states, rows), row=torch.full_like(states.row, -1))
        return replace(there, free=torch.ones_like(states.free)), (picture, picture)

    def admission(self, *_):
        return self.admitted

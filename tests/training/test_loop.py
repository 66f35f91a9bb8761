"""What all training runs share, on a run that learns nothing."""

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.training.loop import REPORT, Loop  # noqa: E402  (after the check that torch is there)


@dataclass(frozen=True)
class Recipe:
    samples: int
    batch: int = 2
    learning_rate: float = 1e-3
    warmup: int = 1
    ema: float = 0.5
    seed: int = 0


def loop(folder, steps):
    net, recipe = torch.nn.Linear(1, 1), Recipe(2 * steps)
    constant = lambda index: {"three": net(torch.ones(1, 1)).sum() * 0 + 3.0}  # noqa: E731
    return Loop(recipe, net, folder, 8, constant, lambda: {"recipe": {"batch": 2}})


def test_the_first_line_after_a_resume_is_a_mean_of_what_was_summed(tmp_path):
    """It was divided by REPORT, whatever number of steps was left."""
    loop(tmp_path, REPORT - 10).run()
    again = loop(tmp_path, 2 * REPORT)
    again.run(resume=True)
    assert [row["step"] for row in again.history] == [REPORT, 2 * REPORT]
    assert [row["three"] for row in again.history] == [3.0, 3.0]

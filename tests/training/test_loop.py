"""What all training runs share, on a run that learns nothing."""

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.training.loop import REPORT, Loop, averaged  # noqa: E402


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


def test_a_run_does_not_go_on_with_more_data(tmp_path):
    """Incident (review): a recorder had gone on, all later draws were others, and nothing said so."""
    loop(tmp_path, 2).run()
    again = loop(tmp_path, 4)
    again._population = 9
    with pytest.raises(ConfigError, match="data: '9 observations' is not valid; 8"):
        again.run(resume=True)


# A root has no finite slope at nothing, though its value is a number.
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda x: x * float("nan"), "step 8.*three 3, bad nan, gradient nan"),
        (lambda x: (x * 0).sqrt(), "step 8.*three 3, bad -?0, gradient"),
    ],
    ids=["loss", "gradient"],
)
def test_a_loss_that_is_no_number_ends_the_run_before_it_is_learned_from(tmp_path, bad, why):
    """Incident: one spread to weights and average, and the next checkpoint took the place of the last good one."""
    made = loop(tmp_path, 12)
    made.checkpoint_steps, usual = 5, made._losses
    weight = made.net.weight
    made._losses = lambda index: usual(index) | {"bad": bad(weight.sum()) if made.step == 7 else weight.sum() * 0}
    with pytest.raises(ConfigError, match=why):
        made.run()
    assert made.step == 7 and all(value.isfinite().all() for value in made.net.state_dict().values())
    tensors, state = averaged(tmp_path)
    assert state["step"] == 5 and all(value.isfinite().all() for value in tensors.values())


CARD = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch built for CUDA")
)


@pytest.mark.parametrize("device", ["cpu", CARD])
def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path, device):
    """Incident: a checkpoint had the state of the CPU's generator alone, and on a card each resume drew anew."""
    drawn = {}

    def noisy(folder, seed):
        torch.manual_seed(seed)
        net, at = torch.nn.Linear(1, 1), drawn.setdefault(seed, {})

        def losses(index):
            at[made.step] = float(torch.randn((), device=device))
            return {"nothing": net(torch.ones(1, 1, device=device)).sum() * 0}

        made = Loop(Recipe(20), net, folder, 8, losses, lambda: {"recipe": {}}, device=device)
        made.checkpoint_steps = 5
        return made

    whole = noisy(tmp_path, 1)
    whole.save = lambda: Loop.save(whole) if whole.step == 5 else None
    whole.run()
    noisy(tmp_path, 2).run(resume=True)
    assert drawn[2] == {step: drawn[1][step] for step in range(5, 10)}

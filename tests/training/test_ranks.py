"""Two processes that share batches train the network that one process would."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from safetensors.torch import load_file, save_file  # noqa: E402  (after the check that torch is there)

from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.training.loop import Loop  # noqa: E402
from vla_mbpo.training.ranks import Ranks  # noqa: E402


@dataclass(frozen=True)
class Recipe:
    samples: int = 120
    batch: int = 6
    learning_rate: float = 1e-2
    warmup: int = 1
    ema: float = 0.9
    seed: int = 3


class Two(torch.nn.Module):
    """``idle`` is never used, ``odd`` only for some samples, so that a rank may have no gradient of it."""

    def __init__(self):
        super().__init__()
        self.first, self.odd, self.idle = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)


def train(out, resume=False, odd_one=False):
    """``odd_one``: the second rank's loss is no number."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(31, 4), torch.randn(31, 1)
    net = Two()

    def losses(index):
        rows, odd = x[index], torch.from_numpy(index % 4 == 1)
        made = net.first(rows)
        if odd.any():
            made = made + odd[:, None] * net.odd(rows)
        spoiled = float("nan") if odd_one and loop.ranks.number == 1 and loop.step == 3 else 1.0
        return {"error": (made - y[index]).square().mean() * spoiled}

    loop = Loop(Recipe(), net, out, 31, losses, lambda: {"recipe": {}})
    loop.run(resume)
    return loop


def draws(out, resume=False):
    """What noise each step drew, of a run whose last checkpoint is at half of its steps."""
    net, drawn = Two(), []

    def losses(index):
        drawn.append(float(torch.randn(())))
        return {"nothing": net.first(x).sum() * 0}

    x, loop = torch.ones(1, 4), Loop(Recipe(), net, out, 31, losses, lambda: {"recipe": {}})
    loop.checkpoint_steps = 10
    loop.save = lambda: Loop.save(loop) if loop.step == 10 else None
    loop.run(resume)
    return drawn


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Run folder, and the weights that each of two ranks ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen([sys.executable, __file__, str(folder)], env=os.environ | common | {"RANK": str(rank)},
                         stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return folder, [load_file(folder / f"rank_{rank}.safetensors") for rank in range(2)], said


def test_both_ranks_end_with_the_same_weights(pair):
    _, (first, second), _ = pair
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_they_are_those_of_one_process_with_the_whole_batch(pair, tmp_path):
    _, (first, _), _ = pair
    alone = train(tmp_path).net.state_dict()
    assert all(torch.allclose(first[name], alone[name], atol=1e-6) for name in alone)


def test_only_the_first_rank_writes_and_prints(pair):
    folder, _, said = pair
    assert {file.name for file in (folder / "run").iterdir()} == {"state.json", "checkpoint_20.safetensors"}
    assert said[1] == ""


def test_both_end_where_a_loss_is_no_number_on_one_of_them(pair):
    """The other one would go on with weights that are none, or wait for it for ever."""
    first, second = ((pair[0] / f"odd_{rank}.txt").read_text() for rank in range(2))
    assert first == second and "loss at step 4: 'error nan, gradient nan' is not valid" in first


def test_a_resumed_run_draws_on_each_rank_what_it_would_have_drawn(pair):
    """Incident: each resume began with the noise of the run's beginning."""
    first, second = (load_file(pair[0] / f"noise_{rank}.safetensors") for rank in range(2))
    for one in (first, second):
        assert len(one["again"]) == 10 and torch.equal(one["whole"][10:], one["again"])
    assert not torch.equal(first["whole"], second["whole"])


def test_what_was_dealt_out_comes_back_in_order(pair):
    assert all(list(weights["dealt"]) == [0, 1, 2, 3, 4] for weights in pair[1])


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ConfigError, match="batch"):
        Ranks(0, 2).check(5)


def test_ranks_share_a_batch_without_overlap():
    index = np.arange(6)
    assert sorted(np.concatenate([Ranks(number, 3).share(index) for number in range(3)])) == list(index)


if __name__ == "__main__":
    to = Path(sys.argv[1])
    made = train(to / "run")
    try:
        train(to / "odd", odd_one=True)
    except ConfigError as error:
        (to / f"odd_{made.ranks.number}.txt").write_text(str(error))
    mine = list(range(made.ranks.number, 5, 2))
    noise = {name: torch.tensor(draws(to / "noise", name == "again")) for name in ("whole", "again")}
    save_file(noise, to / f"noise_{made.ranks.number}.safetensors")
    found = {"dealt": torch.tensor(made.ranks.gathered(mine)), **made.net.state_dict()}
    save_file(found, to / f"rank_{made.ranks.number}.safetensors")

"""The world of dream RL says what the vetting on the robot says, of the same chunks. With the shipped bundles."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.observation import Observation  # noqa: E402  (after the check that torch is there)
from vla_mbpo.imagination.session import WorldModelSession  # noqa: E402
from vla_mbpo.paths import bundle_dir  # noqa: E402
from vla_mbpo.policy.bundle import Bundle  # noqa: E402
from vla_mbpo.training.calibration import constants  # noqa: E402
from vla_mbpo.training.dream_world import DreamWorld  # noqa: E402
from vla_mbpo.training.rollouts import generate  # noqa: E402
from vla_mbpo.training.sft import load_policy  # noqa: E402

RUN = "models/training/world_model"


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    generate(folder, ("button",), {"few": 1}, 123, workers=1, timeout=6.0)
    (file,) = folder.glob("*.npz")
    return file


@pytest.fixture(scope="module")
def world(spec, logged):
    """The world, its states, and the looks of one attempt."""
    root, policy = bundle_dir("sft_few").parents[1], Bundle.load(bundle_dir("sft_few"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # the run names its eyes and autoencoder by relative folders
        made = DreamWorld(Path(RUN), constants("world_model"), policy, load_policy(policy.path), spec)
    states, _ = made.read([logged])
    with np.load(logged) as episode:
        return made, states, {name: episode[name] for name in episode.files}


def standard(world, look, count):
    """The logged candidates of a look, as the policy gave them."""
    made, states, episode = world
    rows = episode["candidates"][look].astype(np.float64).copy()
    rows[..., :-1] -= episode["joints"][look]
    many = states.at(torch.full((count,), look))
    return many, torch.from_numpy(((rows - made._norm["action_mean"]) / made._norm["action_std"]).astype(np.float32))


def test_it_judges_as_the_vetting_does(world, spec):
    """Both read the same network: standardised inputs, bins, prefix and calibration are the same."""
    session, (made, states, episode) = WorldModelSession.load(bundle_dir("world_model"), spec), world
    pairs, costs = [], []
    for look in range(len(states)):
        chunks = episode["candidates"][look].astype(np.float64)
        body = [episode[name][look].astype(np.float64) for name in ("joints", "velocities", "gripper")]
        seen = Observation(0, episode["head"][look], episode["wrist"][look], body[0], body[1], float(body[2]))
        positions, gripper = chunks[..., :-1], chunks[..., -1]
        vetted = session.vet(seen, "press the button", positions, gripper, session.tool_ways(positions))
        judged = made.judge(*standard(world, look, len(chunks)))
        if not isinstance(vetted, str):
            pairs.append((vetted.value, 0.5 ** (judged.to_go.numpy().mean(0) / 40)))
            costs.append((vetted.cost, judged.cost.numpy()))
    ours, theirs = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert len(ours) > 40 and np.corrcoef(ours, theirs)[0, 1] > 0.97 and np.abs(ours - theirs).mean() < 0.03
    a, b = (np.concatenate(side) for side in zip(*costs, strict=True))
    assert np.abs(a - b).mean() < 0.03


def test_committed_rows_come_back(world):
    made, states, episode = world
    assert (states.free[1:].sum(1) < states.free.shape[1]).all()
    for look in range(1, len(states)):
        d = int((states.free[look] == 0).sum())
        _, rows = standard(world, look, 1)
        torch.testing.assert_close(states.prefix[look, :d], rows[0, :d], atol=1e-4, rtol=0)


def test_what_the_policy_proposed_is_mostly_fit_and_a_jump_is_not(world):
    many, rows = standard(world, 3, 8)
    assert world[0].judge(many, rows).unfit.float().mean() < 0.5
    rows[:, 9, 2] += 5.0
    assert world[0].judge(many, rows).unfit.all()


def test_tails_are_those_of_the_groups_first_and_carry_no_credit(world):
    many, rows = standard(world, 3, 8)
    spliced, driven = world[0].common_tails(rows, many, 8, 8)
    end = int((many.free[0] == 0).sum()) + 8
    assert driven[:, end:].sum() == 0 and (driven[:, end - 8 : end] == 1).all()
    torch.testing.assert_close(spliced[:, :end], rows[:, :end])
    torch.testing.assert_close(spliced[0], rows[0], atol=1e-4, rtol=0)
    std, mean = (torch.from_numpy(world[0]._norm[f"action_{name}"]) for name in ("std", "mean"))
    tail = (spliced * std + mean)[:, end - 1 :].diff(dim=1)
    torch.testing.assert_close(tail, tail[:1].expand_as(tail), atol=1e-4, rtol=0)

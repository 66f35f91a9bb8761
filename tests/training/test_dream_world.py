"""The world of dream RL says what the vetting on the robot says, of the same chunks. With the shipped bundles."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.core.observation import Observation  # noqa: E402
from vla_mbpo.imagination.dream import dream  # noqa: E402
from vla_mbpo.imagination.session import WorldModelSession  # noqa: E402
from vla_mbpo.paths import bundle_dir  # noqa: E402
from vla_mbpo.policy.bundle import Bundle  # noqa: E402
from vla_mbpo.training.calibration import constants  # noqa: E402
from vla_mbpo.training.dream_world import DreamWorld, Judged  # noqa: E402
from vla_mbpo.training.rollouts import generate  # noqa: E402
from vla_mbpo.training.sft import load_policy  # noqa: E402

RUN = "models/training/world_model"


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    generate(folder, ("button",), {"few": 1}, 123, workers=1, timeout=6.0)
    (file,) = folder.glob("*.npz")
    return file


def opened(spec, found=None, **options) -> DreamWorld:
    root, policy = bundle_dir("sft_few").parents[1], Bundle.load(bundle_dir("sft_few"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # the run names its eyes and autoencoder by relative folders
        found = found or constants("world_model")
        return DreamWorld(Path(RUN), found, policy, load_policy(policy.path), spec, **options)


@pytest.fixture(scope="module")
def world(spec, logged):
    """The world, its states, and the looks of one attempt."""
    made = opened(spec)
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


def test_a_chunk_may_be_worth_what_it_is_to_who_drove(world, spec):
    """What an expert would still need and what the policies needed are outcomes of their own."""
    rows = standard(world, 2, 8)
    usual, driven = (made.judge(*rows) for made in (world[0], opened(spec, value=1)))
    assert torch.equal(usual.success, driven.success)
    assert (usual.to_go - driven.to_go).abs().max() > 0.1
    with pytest.raises(ConfigError, match="value: 2"):
        opened(spec, value=2)


def test_a_reward_that_nothing_has_trained_is_refused(spec):
    found = constants("world_model") | {"value": 1}
    with pytest.raises(ConfigError, match="value: 3 is not valid; 1: no expert"):
        opened(spec, found)
    assert opened(spec, found, value=1)


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


def driven(world, looks):
    """What was driven from some looks of the attempt: states, chunks as the policy gives them, rows as on the tape."""
    made, states, episode = world
    index = episode["at"][looks][:, None] + np.arange(states.free.shape[1])
    rows = np.concatenate([episode["set_point"][index], episode["opening"][index][..., None]], 2).astype(np.float64)
    plan = rows.copy()
    plan[..., :-1] -= episode["joints"][looks][:, None]
    plan = (plan - made._norm["action_mean"]) / made._norm["action_std"]
    return states.at(torch.tensor(looks)), torch.from_numpy(plan.astype(np.float32)), rows


def test_what_lies_ahead_is_what_the_slow_mode_dreams(world, spec):
    """One network, two runtimes: torch here, compiled and quantised there. With one flow step there is no noise."""
    session = WorldModelSession.load(bundle_dir("world_model"), spec, pixels=True)
    (made, _, episode), looks = world, [1, 4]
    there, pictures = made.ahead(*driven(world, looks)[:2], flow_steps=1)
    for i, (look, rows) in enumerate(zip(looks, driven(world, looks)[2], strict=True)):
        body = [episode[name][look].astype(np.float64) for name in ("joints", "velocities", "gripper")]
        seen = Observation(0, episode["head"][look], episode["wrist"][look], body[0], body[1], float(body[2]))
        chunk = [(rows[:, :-1], rows[:, -1])]
        found = dream(session, seen, "press the button", chunk, np.random.default_rng(0), flow_steps=1)
        assert np.abs(there.joints[i].numpy() - found.joints[0]).max() < 0.05
        for ours, theirs in zip(pictures, (found.head[0], found.wrist[0]), strict=True):
            assert np.abs(ours[i].numpy().astype(float) - theirs).mean() < 6.0


def test_what_lies_ahead_is_nearer_to_what_came_than_what_was(world):
    (made, states, episode), at = world, list(world[2]["at"])
    looks = [i for i, row in enumerate(at) if row + 16 in at and row + 16 <= len(episode["set_point"])]
    after = [at.index(at[i] + 16) for i in looks]
    there, _ = made.ahead(*driven(world, looks)[:2], flow_steps=2)
    came, was = states.joints[torch.tensor(after)], states.joints[torch.tensor(looks)]
    assert (there.joints - came).abs().mean() < 0.5 * (was - came).abs().mean()
    assert (there.free == 1).all() and (there.row == -1).all()
    assert made.judge(there, there.prefix).cost.isfinite().all()


def test_the_wrist_view_is_given_the_head_view_only_where_views_are_interleaved(world):
    made, some = world[0], driven(world, [1, 4])[:2]
    found = []
    for interleaved in (True, False):
        torch.manual_seed(0)
        found.append(made.ahead(*some, flow_steps=2, interleaved=interleaved)[1])
    (head, wrist), (same, other) = found
    assert torch.equal(head, same) and not torch.equal(wrist, other)


def test_a_branch_adds_up_until_it_is_done():
    number = lambda *values: torch.tensor(values)  # noqa: E731
    first = Judged(number([30.0, 5.0]), number(0.1, 0.2), number(0.5, 0.9), number(0.2, 0.7), number(True, False))
    later = Judged(number([8.0, 50.0]), number(0.5, 0.5), number(0.6, 0.1), number(0.9, 0.1), number(False, True))
    found = first.then(later, 16, torch.arange(2))
    torch.testing.assert_close(found.to_go, number([24.0, 5.0]))  # 16 rows and what is left; done, so no further rows
    torch.testing.assert_close(found.cost, number(0.55, 0.2))
    torch.testing.assert_close(found.success, number(0.6, 0.9))
    torch.testing.assert_close(found.done, number(0.9, 0.7))
    assert found.unfit.tolist() == [True, False]


def test_a_branch_goes_on_as_long_as_one_of_its_group_does():
    done = torch.tensor([0.9, 0.2, 0.9, 0.8, 0.1, 0.1])
    zero = torch.zeros(6)
    first = Judged(zero[None], zero, zero, done, zero > 1)
    going = first.going(2)
    assert going.tolist() == [0, 1, 4, 5]
    there = torch.ones(len(going))
    found = first.then(Judged(there[None], there, there, there, there > 2), 16, going)
    assert found.to_go.tolist() == [[0.0, 17.0, 0.0, 0.0, 17.0, 17.0]]
    assert found.cost.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]

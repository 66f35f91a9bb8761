"""Candidates of one inference: prefix, noise, gripper, agreement with the network."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.policy.runtime import PolicySession, UnknownInstruction
from vla_mbpo.policy.sessions import load_policy

TEXT = "put the red cube in the bin"
SIZE = 32


@pytest.fixture(scope="module")
def session(tiny_bundle):
    return PolicySession.load(tiny_bundle)


@pytest.fixture(scope="module")
def observation(spec):
    rng = np.random.default_rng(0)
    head, wrist = rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    return Observation(0, head, wrist, np.array(spec.home), rng.normal(0, 0.1, 7), 0.05)


def infer(session, observation, d=0, k=4, seed=0, text=TEXT, **options):
    prefix = observation.joints + 0.01 * np.arange(1, d + 1)[:, None]
    return session.infer(observation, text, prefix, np.full(d, 0.05), k, np.random.default_rng(seed), **options)


def test_candidates_are_rows_of_the_robot(session, observation, spec):
    found = infer(session, observation, k=3)
    assert found.positions.shape == (3, spec.horizon, 7)
    assert found.gripper.shape == (3, spec.horizon)
    assert found.features.ndim == 1
    assert found.features.dtype == np.float32
    assert np.isfinite(found.positions).all()


@settings(max_examples=25)
@given(st.integers(0, 16), st.integers(0, 99))
def test_the_prefix_comes_back_unchanged_as_the_first_rows(session, observation, d, seed):
    rng = np.random.default_rng(seed)
    prefix, openings = observation.joints + rng.normal(0, 0.05, (d, 7)), rng.uniform(0, 0.08, d)
    found = session.infer(observation, TEXT, prefix, openings, 2, rng)
    for candidate in range(2):
        np.testing.assert_array_equal(found.positions[candidate, :d], prefix)
        np.testing.assert_array_equal(found.gripper[candidate, :d], openings)


def test_the_rows_after_the_prefix_depend_on_it(session, observation):
    other = session.infer(
        observation, TEXT, observation.joints + np.full((3, 7), 0.1), np.full(3, 0.05), 1, np.random.default_rng(0)
    )
    assert np.abs(infer(session, observation, d=3, k=1).positions[:, 3:] - other.positions[:, 3:]).max() > 1e-4


def test_candidates_differ_and_share_their_features(session, observation):
    found = infer(session, observation, k=8)
    assert len({candidate.tobytes() for candidate in found.positions}) == 8
    np.testing.assert_array_equal(found.features, infer(session, observation, k=1, seed=9).features)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=20)
def test_the_same_seed_gives_bitwise_the_same_candidates(session, observation, seed, k):
    one, two = infer(session, observation, 3, k, seed), infer(session, observation, 3, k, seed)
    np.testing.assert_array_equal(one.positions, two.positions)
    np.testing.assert_array_equal(one.gripper, two.gripper)


def test_another_seed_gives_other_candidates(session, observation):
    assert (infer(session, observation, seed=1).positions != infer(session, observation, seed=2).positions).any()


def test_without_noise_all_candidates_are_one(session, observation):
    found = infer(session, observation, k=4, noise=0.0)
    np.testing.assert_array_equal(found.positions[1:], found.positions[:1].repeat(3, 0))


def test_more_noise_spreads_the_candidates(session, observation):
    narrow, wide = (infer(session, observation, k=16, noise=noise).positions.std(0).mean() for noise in (0.5, 2.0))
    assert wide > 1.5 * narrow


def test_spread_widens_the_later_candidates_and_leaves_the_first(session, observation):
    plain, spread = (infer(session, observation, k=16, spread=spread).positions for spread in (1.0, 3.0))
    away = np.abs(spread - plain).mean((1, 2))
    assert away[8:].mean() > away[1:8].mean() > 10 * away[0]  # not 0: int8 scales are those of the whole batch


@settings(max_examples=40)
@given(st.floats(0, 0.08), st.integers(0, 10), st.floats(0.1, 30.0), st.integers(0, 999))
def test_the_gripper_keeps_its_range_and_its_speed(session, observation, spec, opening, d, noise, seed):
    seen = replace(observation, gripper=opening)
    prefix = np.repeat(observation.joints[None], d, 0)
    rng = np.random.default_rng(seed)
    found = session.infer(seen, TEXT, prefix, np.full(d, opening), 4, rng, noise=noise)
    low, high = spec.gripper_range
    assert ((found.gripper >= low) & (found.gripper <= high)).all()
    steps = np.diff(np.c_[np.full(4, opening), found.gripper], axis=1)
    assert np.abs(steps).max() <= spec.gripper_speed * spec.row_period / 1e9 + 1e-12


def test_lowered_limits_hold_for_the_gripper_of_what_the_policy_says(tiny_bundle, observation, spec):
    """Incident: its chunks were refused for the gripper alone, however slowly the arm moved."""
    slow = spec.scaled(0.1)
    found = infer(load_policy(tiny_bundle, slow), observation, k=4, noise=10.0)
    steps = np.abs(np.diff(found.gripper, axis=1))
    assert 0 < steps.max() <= slow.gripper_speed * slow.row_period / 1e9 + 1e-12


def test_a_world_model_in_a_policys_place_is_refused(tiny_world_model):
    with pytest.raises(ConfigError, match="tiny_world_model, a world_model.*a policy's bundle"):
        PolicySession.load(tiny_world_model)


@pytest.mark.parametrize("view", ["head", "wrist"])
@pytest.mark.parametrize("shape", [(SIZE, SIZE + 1, 3), (64, 64, 3), (SIZE, SIZE), (SIZE, SIZE, 4)])
def test_an_image_of_the_wrong_size_is_refused_with_the_view_named(session, observation, view, shape):
    with pytest.raises(ConfigError, match=f"^{view} image"):
        infer(session, replace(observation, **{view: np.zeros(shape, np.uint8)}))


def test_an_unknown_instruction_is_refused(session, observation):
    with pytest.raises(UnknownInstruction, match="banana"):
        infer(session, observation, text="put the banana in the bin")
    with pytest.raises(UnknownInstruction, match="banana"):
        session.check_instruction("put the banana in the bin")


@pytest.mark.parametrize("field", ["head", "wrist", "joints", "velocities", "gripper"])
def test_every_input_matters(session, observation, field):
    value = getattr(observation, field)
    other = replace(observation, **{field: 255 - value if field in ("head", "wrist") else value + 0.03})
    assert (infer(session, observation).features != infer(session, other).features).any()


def test_the_instruction_matters(session, observation):
    other = infer(session, observation, text="open the drawer")
    assert (infer(session, observation).features != other.features).any()


def rollout(net, session, observation, d, k, seed, steps=5, prefix_time=1.0):
    """The same sampling in torch, in standard deviations."""
    torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    norm = {key: np.array(value, np.float32) for key, value in session.bundle.manifest["normalisation"].items()}
    body = np.r_[observation.joints, observation.velocities, observation.gripper].astype(np.float32)
    images = [
        torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2) for image in (observation.head, observation.wrist)
    ]
    words = torch.from_numpy(session.vocabulary.encode(TEXT))[None]
    proprio = torch.from_numpy((body - norm["proprio_mean"]) / norm["proprio_std"])[None]
    rows = np.random.default_rng(seed).standard_normal((k, 16, 8), np.float32)
    prefix = np.c_[0.01 * np.arange(1, d + 1)[:, None].repeat(7, 1), np.full(d, 0.05)]
    rows[:, :d] = (prefix - norm["action_mean"][:d]) / norm["action_std"][:d]
    rows, time = torch.from_numpy(rows), torch.full((k, 16), prefix_time)
    with torch.no_grad():
        cache, mask, _ = net.encode(*images, words, proprio)
        for step in range(steps):
            time[:, d:] = step / steps
            rows[:, d:] += net.velocity(cache, mask, rows, time)[:, d:] / steps
    return rows.numpy()


@pytest.mark.parametrize("d", [0, 3])
def test_int8_stays_close_to_the_network(session, observation, tiny_net, d):
    expected = rollout(tiny_net, session, observation, d, 8, 4)
    found = infer(session, observation, d, 8, 4)
    standard = (found.positions - observation.joints) / 0.05
    error = np.abs(standard - expected[..., :7])
    spread = expected[:, d:, :7].std(0).mean()
    assert error.max() < 0.2 * spread
    assert error.mean() < 0.03 * spread


def test_the_prefix_enters_at_time_one(session, observation, tiny_net):
    """As in training: committed rows are data, not noise."""
    found = (infer(session, observation, 8, 8, 4).positions - observation.joints)[:, 8:] / 0.05
    right, wrong = (rollout(tiny_net, session, observation, 8, 8, 4, prefix_time=t)[:, 8:, :7] for t in (1.0, 0.0))
    assert np.abs(found - right).mean() < 0.5 * np.abs(found - wrong).mean()

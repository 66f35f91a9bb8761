"""The world model on the robot: what the exported bundle answers and refuses."""

import json
import shutil

import numpy as np
import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.planner import PlannerConfig
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.imagination.vetting import Vetting
from vla_mbpo.policy.vocabulary import UnknownInstruction

WORDS = "press the button"
PERIOD = 50_000_000


@pytest.fixture(scope="module")
def session(tiny_world_model, spec):
    return WorldModelSession.load(tiny_world_model, spec)


def observation(spec, stamp=1_000_000_000):
    rng = np.random.default_rng(0)
    head, wrist = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    return Observation(stamp, head, wrist, spec.home.copy(), np.zeros(7), 0.04)


def chunks(spec, k=4, seed=0):
    rng = np.random.default_rng(seed)
    speed = rng.uniform(-0.3, 0.3, (k, 1, 7))
    return spec.home + speed * 0.05 * np.arange(1, 17)[None, :, None], rng.uniform(0, 0.08, (k, 16))


def judge(session, spec, positions, gripper, committed=0, words=WORDS, **options):
    return Vetting(session).judge(observation(spec, **options), words, positions, gripper, committed, PERIOD)


def test_all_candidates_get_probabilities(session, spec):
    found = judge(session, spec, *chunks(spec)).imagined
    for values in (found.success, found.value, found.cost):
        assert values.shape == (4,) and (values >= 0).all() and (values <= 1).all()
    assert (found.uncertainty > 0).all()
    assert len(np.unique(found.value)) == 4


def test_candidates_are_ranked_by_the_outcome_that_the_bundle_names(tiny_world_model, spec):
    """Where no expert was ever shown, the time that one would take is an untrained head."""
    session = WorldModelSession.load(tiny_world_model, spec)
    logits = np.random.default_rng(0).normal(size=(5, 3, 2, 4))
    usual = session._read(logits, logits[..., 0]).value
    for named, same in ((3, True), (1, False)):
        session._calibration["value"] = named
        found = session._read(logits, logits[..., 0]).value
        scale, shift = (row[named] for row in session._calibration["outcome"])
        np.testing.assert_allclose(found, (1 / (1 + np.exp(-scale * logits[:, :, 0, named] - shift))).mean(0))
        assert (found == usual).all() == same


def test_the_answer_does_not_depend_on_the_other_candidates(session, spec):
    positions, gripper = chunks(spec)
    whole = judge(session, spec, positions, gripper).imagined
    part = judge(session, spec, positions[2:3], gripper[2:3]).imagined
    # Dynamic int8 scales a tensor by its largest value, so a batch moves the last digits.
    np.testing.assert_allclose(part.success, whole.success[2:3], atol=0.03)


def test_the_choice_stays_with_the_motion_under_way(session, spec):
    """Of two candidates that are one but for the order, the one that goes on is taken."""
    lenient = PlannerConfig(unsafe_cost=1.0, max_uncertainty=1.0, margin=0.5)
    positions, gripper = chunks(spec, k=1)
    going_on = np.concatenate([positions[:, 8:], np.repeat(positions[:, -1:], 8, axis=1)], 1)
    other = going_on + 1e-4
    for order in ([0, 1], [1, 0]):
        both = np.concatenate([going_on, other])[order]
        twin = Vetting(session, lenient)
        twin.judge(observation(spec), WORDS, positions, gripper, 0, PERIOD)
        found = twin.judge(observation(spec, 1_400_000_000), WORDS, both, np.repeat(gripper, 2, 0), 0, PERIOD)
        assert order[found.choice.order[0]] == 0


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda p, g: p.__setitem__((1, 3, 0), np.nan), "not finite"),
        (lambda p, g: g.__setitem__((0, 0), np.inf), "not finite"),
        (lambda p, g: p.__setitem__((1, 0, 0), 9.0), "committed rows"),
    ],
    ids=["NaN position", "infinite opening", "another prefix"],
)
def test_chunks_that_cannot_be_judged_are_unknown(session, spec, spoil, reason):
    positions, gripper = chunks(spec)
    positions[:, :2] = positions[:1, :2]
    spoil(positions, gripper)
    found = judge(session, spec, positions, gripper, committed=2).choice
    assert set(found.verdicts) == {Verdict.UNKNOWN}
    assert reason in found.reasons[0][0]
    assert found.order == ()


def test_chunks_of_another_length_are_unknown(session, spec):
    positions, gripper = chunks(spec)
    found = judge(session, spec, positions[:, :8], gripper[:, :8]).choice
    assert "8 rows; the world model reads 16" in found.reasons[0][0]


def test_an_unknown_word_is_refused(session, spec):
    with pytest.raises(UnknownInstruction, match="defenestrate"):
        judge(session, spec, *chunks(spec), words="defenestrate the cube")


def test_pictures_of_another_size_are_refused(session, spec):
    seen = observation(spec)
    with pytest.raises(ConfigError, match="head image"):
        session.observe(Observation(0, seen.head[:16], seen.wrist, seen.joints, seen.velocities, 0.04), WORDS)


def test_a_changed_file_is_refused_by_name(tiny_world_model, spec, tmp_path):
    copy = shutil.copytree(tiny_world_model, tmp_path / "copy")
    with (copy / "imagine.int8.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ConfigError, match=r"imagine\.int8\.onnx"):
        WorldModelSession.load(copy, spec)


@pytest.mark.parametrize("key", ["policies", "calibration", "joints"])
def test_a_manifest_without_a_field_is_refused_by_name(tiny_world_model, spec, tmp_path, key):
    copy = shutil.copytree(tiny_world_model, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest[key]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=key):
        WorldModelSession.load(copy, spec)


def test_a_policy_bundle_is_no_world_model(tiny_bundle, spec):
    with pytest.raises(ConfigError, match="world model"):
        WorldModelSession.load(tiny_bundle, spec)


def test_a_view_unlike_training_is_unknown_and_named(tiny_world_model, spec, monkeypatch):
    session = WorldModelSession.load(tiny_world_model, spec)
    monkeypatch.setitem(session._calibration, "strange_limit", np.array([1e9, 0.0]))
    found = judge(session, spec, *chunks(spec)).choice
    assert set(found.verdicts) == {Verdict.UNKNOWN} and found.order == ()
    assert "the wrist view is unlike training" in found.reasons[0][0]


def test_the_bundles_own_limit_of_uncertainty_counts_where_it_is_lower(tiny_world_model, spec):
    session = WorldModelSession.load(tiny_world_model, spec)
    session.uncertainty_limit = 0.0
    found = Vetting(session, PlannerConfig(max_uncertainty=0.9))
    assert found.config.max_uncertainty == 0.0
    choice = found.judge(observation(spec), WORDS, *chunks(spec), 0, PERIOD).choice
    assert set(choice.verdicts) == {Verdict.UNKNOWN} and "uncertainty" in choice.reasons[0][0]

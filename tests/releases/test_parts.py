"""World model and detector of another policy version, made to belong to a candidate."""

import pytest
from made_up import tapes

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.failure.detector import FailureDetector
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.parts import adopted, as_they_are
from vla_mbpo.releases.release import assemble


def test_parts_of_another_version_are_taken_over_in_copies(policies, tiny_world_model, tiny_detector, tmp_path):
    policy, before = policies["new"], [Bundle.load(path).digest for path in (tiny_world_model, tiny_detector)]
    data = tapes(tmp_path / "data", policy.version, range(200, 240))
    parts = adopted(policy, str(tiny_world_model), str(tiny_detector), [str(data)], 0.1, tmp_path / "work")
    (tmp_path / "release").mkdir()
    found = assemble(tmp_path / "release", policy, {}, parts.world_model, parts.detector, parts.bands)
    assert found.bands.policy == policy.version
    assert policy.version in found.world_model.manifest["policies"]
    assert [Bundle.load(path).digest for path in (tiny_world_model, tiny_detector)] == before


def test_the_bands_are_those_of_the_candidates_own_attempts(policies, tiny_detector, tmp_path):
    policy = policies["new"]
    calm = tapes(tmp_path / "calm", policy.version, range(200, 240))
    wild = tapes(tmp_path / "wild", policy.version, range(300, 340), wild=5.0)
    made = [
        adopted(policy, "", str(tiny_detector), [str(data)], 0.1, tmp_path / data.name / "work")
        for data in (calm, wild)
    ]
    means = [
        FailureDetector.load(
            str(parts.detector.path), 0.1, policy.version, str(parts.bands)
        ).calibration.band.shape.mean
        for parts in made
    ]
    assert abs(means[0] - means[1]).max() > 0.1


def test_rollouts_of_another_policy_do_not_count(policies, tiny_detector, tmp_path):
    data = tapes(tmp_path / "data", policies["old"].version, range(200, 240))
    with pytest.raises(ConfigError, match="--rollouts.*0 successes of new@"):
        adopted(policies["new"], "", str(tiny_detector), [str(data)], 0.1, tmp_path / "work")


def test_a_world_model_that_knows_the_policy_stays_as_it_is(tiny_bundle, tiny_world_model, tmp_path):
    parts = adopted(Bundle.load(tiny_bundle), str(tiny_world_model), "", [], 0.1, tmp_path / "work")
    assert parts.world_model.path == tiny_world_model


def test_parts_as_they_are_must_know_the_policy(policies, tiny_world_model):
    with pytest.raises(ConfigError, match="for old@"):
        as_they_are(policies["old"], str(tiny_world_model), "")

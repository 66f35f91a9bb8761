import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_up import calm_attempt

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.failure.bands import Band
from vla_mbpo.failure.calibration import Calibration, calibration_file
from vla_mbpo.failure.detector import FailureDetector, Parts
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle, write_manifest

FEATURES = 32


def load(folder, bands=None, alpha=0.1, policy=""):
    bands = str(bands or folder.with_name("bands.json"))
    return FailureDetector.load(str(folder), alpha, policy, bands)


@pytest.fixture
def detector(tiny_detector):
    return load(tiny_detector)


def watch(detector, attempt):
    detector.reset()
    return [detector.add(look) for look in attempt.looks]


def test_calm_attempts_seldom_alarm_and_wild_ones_do(detector):
    calm = [watch(detector, calm_attempt(seed, FEATURES))[-1].alarm for seed in range(1000, 1050)]
    wild = [watch(detector, calm_attempt(seed, FEATURES, wild=4.0))[-1].alarm for seed in range(50)]
    assert np.mean(calm) < 0.25 and np.mean(wild) > 0.9


def test_the_alarm_stays_on_for_the_rest_of_the_attempt_and_not_for_the_next(detector):
    wild, calm = calm_attempt(1, FEATURES, wild=5.0), calm_attempt(2, FEATURES)
    later = [replace(look, row=look.row + 96) for look in calm.looks]
    detector.reset()
    assert [detector.add(look).alarm for look in (*wild.looks, *later)][-1]
    assert not watch(detector, calm)[0].alarm


def test_the_alarm_is_the_vote_of_two(detector):
    for seed in range(30):
        for risk in watch(detector, calm_attempt(seed, FEATURES, wild=2.0)):
            assert risk.alarm == (sum(risk.votes) >= 2) == (risk.score > risk.band)


def test_the_same_attempt_later_on_the_clock_gives_the_same_risk(detector):
    attempt = calm_attempt(3, FEATURES)
    before = [risk.score for risk in watch(detector, attempt)]
    moved = replace(attempt, looks=tuple(replace(look, row=look.row + 10**9) for look in attempt.looks))
    assert [risk.score for risk in watch(detector, moved)] == before


@pytest.mark.parametrize("spoil, reason", [
    (lambda look: replace(look, features=look.features[:-1]), "shape"),
    (lambda look: replace(look, features=np.zeros(0, np.float32)), "no features"),
    (lambda look: replace(look, features=look.features * np.nan), "finite"),
    (lambda look: replace(look, chunks=look.chunks + np.inf), "finite"),
])  # fmt: skip
def test_what_cannot_be_scored_is_unknown_until_the_next_attempt(detector, spoil, reason):
    looks = calm_attempt(4, FEATURES).looks
    detector.reset()
    assert detector.add(looks[0]).known
    assert not detector.add(spoil(looks[1])).known
    after = detector.add(looks[2])
    assert not after.known and reason in after.reason and not after.alarm
    detector.reset()
    assert detector.add(looks[0]).known


def test_other_samples_for_the_same_look_do_not_count_twice(detector):
    """Sets that imagination had asked for once more added to the sums: more false alarms than alpha allows."""
    attempt = calm_attempt(5, FEATURES)
    once = [risk.score for risk in watch(detector, attempt)]
    detector.reset()
    twice = [(detector.add(look), detector.add(replace(look, row=look.row + 3)))[1].score for look in attempt.looks]
    assert twice == once


@pytest.mark.parametrize("phase", [0.3, 0.5, 0.7])
def test_a_camera_that_is_not_in_step_with_the_rows_changes_nothing(detector, phase):
    """Looks a little early were compared with the band's look before, and with chunks shifted by a row."""
    attempt, rng = calm_attempt(6, FEATURES), np.random.default_rng(0)
    once = [risk.score for risk in watch(detector, attempt)]
    jitter = rng.uniform(-0.05, 0.05, len(attempt.looks))
    off = [replace(look, row=look.row + phase + j) for look, j in zip(attempt.looks, jitter, strict=True)]
    np.testing.assert_allclose(
        [risk.score for risk in watch(detector, replace(attempt, looks=tuple(off)))], once, atol=0.1
    )


@pytest.mark.parametrize("member, known", [("elapsed", True), ("spread", False)])
def test_another_number_of_candidates_is_unknown_where_a_member_reads_sets(tiny_detector, member, known):
    parts = Parts(Bundle.load(tiny_detector))
    parts.bundle.manifest["members"] = ["safe_mlp", member]
    look = calm_attempt(4, FEATURES).looks[0]
    band = Band.fit([np.random.default_rng(i).normal(size=(2, 4)) for i in range(30)], 1)
    risk = FailureDetector(parts, band, 1e9).add(replace(look, chunks=look.chunks[:1]))
    assert risk.known == known and (known or "1 candidates" in risk.reason)


def test_unknown_calls_for_somebody(detector):
    detector.reset()
    assert detector.alarm(replace(calm_attempt(4, FEATURES).looks[0], features=np.zeros(3, np.float32)))


def test_bands_of_another_policy_version_are_refused(tiny_detector):
    with pytest.raises(ConfigError, match="policy.*other@123.*calibrate"):
        load(tiny_detector, policy="other@123")


def test_too_few_successes_for_alpha_are_refused_with_the_number_needed(tiny_detector):
    with pytest.raises(ConfigError, match=r"at least \d+ successes.*alpha 0.01"):
        load(tiny_detector, alpha=0.01)


@pytest.mark.parametrize("change", [
    {"detector": "another@1"}, {"members": ["overlap"]}, {"kind": "x"}, {"mean": [[1.0]]}, {"statistics": ["x"]},
])  # fmt: skip
def test_bands_that_do_not_belong_to_the_detector_are_refused(tiny_detector, tmp_path, change):
    raw = json.loads(tiny_detector.with_name("bands.json").read_text())
    (tmp_path / "bands.json").write_text(json.dumps(raw | change))
    with pytest.raises(ConfigError, match="calibration"):
        load(tiny_detector, bands=tmp_path / "bands.json")


@pytest.mark.parametrize("field, value", [
    ("modulation", float("inf")), ("modulation", 0.0), ("statistics", float("nan")), ("mean", float("inf")),
])  # fmt: skip
def test_bands_with_a_number_that_no_score_can_be_compared_with_are_refused(tiny_detector, tmp_path, field, value):
    """Incident: an infinite modulation was loaded, and no score was ever above the band."""
    raw = json.loads(tiny_detector.with_name("bands.json").read_text())
    (raw[field] if field == "statistics" else raw[field][-1])[-1] = value
    (tmp_path / "bands.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=rf"calibration\.{field}: \[{value}\] .* finite numbers"):
        load(tiny_detector, bands=tmp_path / "bands.json")


@pytest.mark.parametrize("votes", [0, -1, 4, 2.5, "2", float("inf"), True])
def test_votes_that_the_members_cannot_give_are_refused(tiny_detector, tmp_path, votes):
    """Incident: none, or more than there are members, were loaded: always an alarm, or none until it ended in one."""
    raw = json.loads(tiny_detector.with_name("bands.json").read_text())
    (tmp_path / "bands.json").write_text(json.dumps(raw | {"votes": votes}))
    with pytest.raises(ConfigError, match=r"calibration\.votes: .* 1 to 3"):
        load(tiny_detector, bands=tmp_path / "bands.json")


@pytest.mark.parametrize("statistics", [[], [3.0, *range(60)], [[1.0]], 2.0])
def test_statistics_of_which_none_is_the_band_are_refused(tiny_detector, tmp_path, statistics):
    """Incident: the band is the one at a rank, which says nothing where they are not sorted."""
    raw = json.loads(tiny_detector.with_name("bands.json").read_text())
    (tmp_path / "bands.json").write_text(json.dumps(raw | {"statistics": statistics}))
    with pytest.raises(ConfigError, match=r"calibration\.statistics"):
        load(tiny_detector, bands=tmp_path / "bands.json")


@pytest.mark.parametrize("name", ["detector_few", "detector_full"])
def test_the_shipped_bands_are_read(name):
    found = Calibration.load(calibration_file(name), Bundle.load(bundle_dir(name)))
    assert found.width(found.policy, found.alpha) > 0


def test_missing_bands_name_the_command(tiny_detector, tmp_path):
    with pytest.raises(ConfigError, match="calibrate detector"):
        load(tiny_detector, bands=tmp_path / "none.json")


def test_a_policys_bundle_is_not_a_detectors(tiny_bundle):
    with pytest.raises(ConfigError, match="failure detector"):
        Parts(Bundle.load(tiny_bundle))


def test_a_changed_file_is_refused(tiny_detector, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_detector, copy)
    (copy / "bank.npz").write_bytes((copy / "bank.npz").read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="bank.npz"):
        Bundle.load(copy)


def test_a_bank_with_pickled_objects_is_not_read(tiny_detector, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_detector, copy)
    np.savez(copy / "bank.npz", looks=np.array([{}], dtype=object), mean=0, std=0, centre=0, precision=0)
    manifest = json.loads((copy / "manifest.json").read_text())
    bundle = write_manifest(copy, {k: v for k, v in manifest.items() if k != "files"})
    with pytest.raises(ValueError, match="pickle"):
        Parts(bundle)


def test_the_detector_needs_neither_torch_nor_ros():
    code = (
        "import sys, vla_mbpo.failure.detector, vla_mbpo.failure.command; print({'torch', 'rclpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

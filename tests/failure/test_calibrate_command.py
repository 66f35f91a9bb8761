"""`vla-mbpo calibrate detector`: from rollouts to bands, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from made_up import tapes

from vla_mbpo.cli import main
from vla_mbpo.failure.bands import Band
from vla_mbpo.failure.calibration import Calibration
from vla_mbpo.failure.command import successes
from vla_mbpo.failure.detector import Parts
from vla_mbpo.policy.bundle import Bundle, write_manifest


@pytest.fixture
def policy(tiny_detector):
    return Bundle.load(tiny_detector).manifest["policies"][0]


def calibrate(detector, out, *more):
    return main(["calibrate", "detector", "--detector", str(detector), "--out", str(out), *map(str, more)])


def changed(detector, tmp_path, change):
    """A copy of the detector, its manifest changed."""
    copy = shutil.copytree(detector, tmp_path / "tiny_detector")
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    write_manifest(copy, {k: v for k, v in manifest.items() if k != "files"})
    return copy


def taught_by(folder, detector, tmp_path):
    """A copy of the detector, trained on attempts in a folder."""
    return changed(detector, tmp_path, lambda manifest: manifest["training"]["recipe"].update(data=[folder]))


def test_bands_are_made_from_the_attempts_of_the_policy_that_went_well(tiny_detector, policy, tmp_path):
    data = tapes(tmp_path / "data", policy, range(200, 240))
    tapes(data, policy, range(300, 310), success=False)
    tapes(data, "another@1", range(400, 410))
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data, "--alpha", 0.1) == 0
    made = json.loads((tmp_path / "bands.json").read_text())
    assert made["n"] == 40 and made["policy"] == policy and made["seeds"] == [200, 239] and made["alpha"] == 0.1


def test_no_attempt_that_a_band_was_made_of_is_above_it_by_rounding(tiny_detector, policy, tmp_path):
    """Incident (review): all attempts of one length share a value, and one rounded down made each of them alarm."""
    data = tapes(tmp_path / "data", policy, range(200, 240))
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data, "--alpha", 0.1) == 0
    detector = Bundle.load(tiny_detector)
    curves, _ = successes(Parts(detector), [str(data)], 0.1)
    made = Calibration.load(tmp_path / "bands.json", detector).band
    np.testing.assert_array_equal(made.statistics, Band.fit(curves, made.votes).statistics)


@pytest.mark.parametrize("end", ["aborted", "human"])
def test_attempts_that_an_alarm_ended_make_no_bands(tiny_detector, policy, tmp_path, capsys, end):
    """Incident (review): fitted again and again to what it let pass, a detector of alpha 0.1 came to alarm in 0.28."""
    data = tapes(tmp_path / "data", policy, range(200, 240))
    file = sorted(data.iterdir())[0]
    with np.load(file) as episode:
        content = dict(episode)
    alarm = np.arange(len(content["at"])) == 2
    human = np.arange(content["at"][-1] + 1) >= content["at"][3]
    np.savez(file, **content, alarm=alarm)
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data) == 0  # noted only
    np.savez(file, **content, alarm=alarm, **({"aborted": True} if end == "aborted" else {"human": human}))
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data) == 64
    assert "1 attempts that an alarm ended" in capsys.readouterr().err


def test_too_few_successes_are_refused_with_the_number_needed_and_nothing_is_written(
    tiny_detector, policy, tmp_path, capsys
):
    data = tapes(tmp_path / "data", policy, range(200, 220))
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data, "--alpha", 0.05) == 64
    assert "20 successes" in (said := capsys.readouterr().err) and "at least 27" in said
    assert not (tmp_path / "bands.json").exists()


@pytest.mark.parametrize(
    "odd, text",
    [({"source": "few_wide"}, "few, few_wide"), ({"k": 1}, "12 looks with another number of candidates")],
    ids=["source", "candidates"],
)
def test_attempts_that_were_driven_in_another_way_are_refused(tiny_detector, policy, tmp_path, capsys, odd, text):
    data = tapes(tmp_path / "data", policy, range(200, 240))
    tapes(data, policy, [300], **odd)
    assert calibrate(tiny_detector, tmp_path / "bands.json", "--data", data) == 64
    assert text in capsys.readouterr().err and not (tmp_path / "bands.json").exists()


@pytest.mark.parametrize("said", ["train/../train", "link", ".", "train/more"])
def test_attempts_that_the_detector_was_trained_on_are_refused_however_they_are_named(
    tiny_detector, policy, tmp_path, monkeypatch, capsys, said
):
    """Incident: paths were compared as they were written, so bands were fitted on the training's own attempts."""
    monkeypatch.chdir(tmp_path)
    detector = taught_by("train", tiny_detector, tmp_path)
    (tmp_path / "train" / "more").mkdir(parents=True)
    (tmp_path / "link").symlink_to("train")
    data = tapes(tmp_path / "own", policy, range(200, 240))
    assert calibrate(detector, tmp_path / "bands.json", "--data", data, said) == 64
    assert f"--data: '{said}' is not valid; attempts that the detector was not trained on" in capsys.readouterr().err


def test_a_proposal_leaves_the_bands_in_use_and_says_how_they_do(tiny_detector, policy, tmp_path, capsys):
    out = tmp_path / "bands.json"
    assert calibrate(tiny_detector, out, "--data", tapes(tmp_path / "data", policy, range(200, 240))) == 0
    before = out.read_bytes()
    newer = tapes(tmp_path / "newer", policy, range(500, 540), wild=3.0)
    assert calibrate(tiny_detector, out, "--data", newer, "--propose") == 0
    assert out.read_bytes() == before and (tmp_path / "bands.proposed.json").exists()
    assert "false alarms in 40 attempts" in capsys.readouterr().out


def test_the_report_is_a_picture(tiny_detector, policy, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib: `make setup-dev`")
    from PIL import Image

    from vla_mbpo.training import detector_report

    drawn = []
    monkeypatch.setattr(detector_report.pyplot, "close", drawn.append)
    detector = changed(tiny_detector, tmp_path, lambda manifest: manifest.update(period=4))
    data = tapes(tmp_path / "data", policy, range(200, 240))
    test = tapes(tmp_path / "test", policy, range(600, 610))
    tapes(test, policy, range(700, 710), wild=4.0, success=False)
    picture = tmp_path / "report.png"
    more = ("--data", data, "--report", picture, "--test", test)
    assert calibrate(detector, tmp_path / "bands.json", *more) == 0
    with Image.open(picture) as image:
        assert image.size[0] > 1000
    looks = drawn[0].axes[2].lines[0].get_xdata()
    assert np.diff(looks) == pytest.approx(0.2)  # s: four rows


def test_a_report_needs_both_outcomes(tiny_detector, policy, tmp_path, capsys):
    data = tapes(tmp_path / "data", policy, range(200, 240))
    test = tapes(tmp_path / "test", policy, range(600, 610))
    more = ("--data", data, "--report", tmp_path / "report.png", "--test", test)
    assert calibrate(tiny_detector, tmp_path / "bands.json", *more) == 64
    assert "0 failures" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["data", "data/more", "train"])
def test_a_report_is_of_attempts_that_neither_bands_nor_detector_know(
    tiny_detector, policy, tmp_path, monkeypatch, capsys, said
):
    """Incident: bands were drawn with the false alarms of the attempts that they had been fitted on."""
    monkeypatch.chdir(tmp_path)
    detector = taught_by("train", tiny_detector, tmp_path)
    data = tapes(tmp_path / "data", policy, range(200, 240))
    more = ("--data", data, "--report", "report.png", "--test", said)
    assert calibrate(detector, tmp_path / "bands.json", *more) == 64
    assert f"--test: '{said}' is not valid; attempts of neither --data nor" in capsys.readouterr().err
    assert not (tmp_path / "bands.json").exists()


@pytest.mark.parametrize(
    "newer, text", [(40, "false alarms in 40 attempts"), (0, "no other attempts to compare on")], ids=["some", "none"]
)
def test_bands_in_use_are_not_compared_on_the_attempts_that_they_were_fitted_on(
    tiny_detector, policy, tmp_path, capsys, newer, text
):
    """Incident: of newer attempts beside the old ones the share of false alarms was that of both."""
    out, data = tmp_path / "bands.json", tapes(tmp_path / "data", policy, range(200, 240))
    assert calibrate(tiny_detector, out, "--data", data) == 0
    more = [tapes(tmp_path / "newer", policy, range(500, 500 + newer))] if newer else []
    assert calibrate(tiny_detector, out, "--data", data, *more, "--propose") == 0
    said = capsys.readouterr().out
    assert f"fitted on attempts in {data}: these are not compared" in said and text in said

"""The page of recordings that the recorder wrote of made-up attempts."""

import json

import pytest
from lerobot_samples import story
from recordings import Attempt
from report_samples import UNSAFE, opened

from benchmarks.recordings import record
from vla_mbpo.cli import EXIT_USAGE, main
from vla_mbpo.reports.after import AfterRun

COSTLY = 3  # look
SIZE = 32  # px, as the tiny world model sees


@pytest.fixture(scope="module")
def episodes(spec, tmp_path_factory):
    """A success with a takeover, an alarm and vetoes, and a failure."""
    folder = tmp_path_factory.mktemp("episodes")
    good = Attempt(spec, rows=40, success=32)
    good.decide(0, 0, "table")
    for candidate in (0, 1):
        good.decide(COSTLY, candidate, "joint_velocity")
    good.decide(1, 1)
    good.imagine(COSTLY, [UNSAFE, UNSAFE])
    good.risk(1, False)
    good.risk(3, True)
    good.takeover(10, 20)
    good.record(folder)
    Attempt(spec, rows=24, instruction="open the drawer").record(folder)
    return folder


@pytest.fixture
def reported(episodes, tmp_path):
    """The page of both."""
    out = tmp_path / "page.html"
    assert main(["record", "report", str(episodes), "--out", str(out)]) == 0
    return opened(out.read_text())


def test_the_page_has_the_numbers_of_the_recordings(reported):
    assert reported.row("attempts") == ["2"]
    assert reported.row("success, of those that succeeded or failed")[0].startswith("1 of 2, 50.0%")
    assert reported.row("takeovers by a person") == ["1, 0.5 s in all, longest 0.5 s"]
    assert reported.row("alarms of the failure detector") == ["in 1 of 2 attempts"]
    assert reported.row("refused: joint_velocity") == ["2", "50.0%"] and reported.row("refused: table") == [
        "1",
        "25.0%",
    ]
    assert reported.row("UNSAFE") == ["2", "100.0%"] and reported.row("chunk set")[0] == "25"


def test_the_worst_vetoes_are_shown_with_what_was_seen_and_the_page_says_what_is_missing(reported):
    text = reported.text
    assert text.index(", 1.2 s</h3>") < text.index(", 0.0 s</h3>")  # of look 3, with more refused, and of look 0
    assert "Candidate 0 was refused: joint_velocity." in text and "Candidate 0 was refused: table." in text
    assert text.count("Only what was seen: no world model vetted here, and none was named.") == 2
    assert len(reported.all("img")) == 2 * 2 * 2  # both moments, at the look and a chunk later, both cameras


def test_one_recording_that_cannot_be_read_does_not_hide_the_others(spec, tmp_path):
    good, bad = (Attempt(spec, rows=8, success=4).record(tmp_path) for _ in range(2))
    bag = bad / json.loads((bad / "episode.json").read_text())["bag"]
    bag.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    assert main(["record", "report", str(good), str(bad)]) == 0
    page = opened((good / "report.html").read_text())
    assert "readable recording" in page.row(bad.name)[-1] and page.row(good.name)[-1] == "complete"
    assert page.row("attempts") == ["2"]


def test_recordings_of_the_same_name_keep_their_own_pictures(spec, tmp_path):
    for place, folder in enumerate(("one", "two")):
        attempt = Attempt(spec, rows=24, success=20)
        for candidate in range(place + 1):
            attempt.decide(0, candidate, "table")
        attempt.record(tmp_path / folder).rename(tmp_path / folder / "same")
    out = tmp_path / "page.html"
    assert main(["record", "report", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(out)]) == 0
    page = opened(out.read_text())
    first, second = (page.text.index(f". {tmp_path / folder / 'same'}, 0.0 s</h3>") for folder in ("two", "one"))
    assert first < second and len(page.all("img")) == 8  # the second has more refused candidates, and its own set


def test_a_world_model_at_hand_imagines_the_refused_chunk_and_the_approved_one(spec, tiny_world_model, tmp_path):
    one = story("button", 3, 24, size=SIZE, vetoed=(1,), success_row=20)
    episode = record(tmp_path, spec, one)
    out = tmp_path / "page.html"
    assert main(["record", "report", str(episode), "--out", str(out), "--world-model", str(tiny_world_model)]) == 0
    page = opened(out.read_text())
    captions = [image["alt"] for image in page.all("img")]
    assert len(captions) == 8
    assert [text.split(": ")[0] for text in captions[2:6:2]] == [
        "head camera. Imagined 0.8 s later, candidate 0, refused",
        "head camera. Imagined 0.8 s later, candidate 1, approved",
    ]
    assert "Only what was seen" not in page.text


def test_what_cannot_be_reported_is_one_line(tmp_path, episodes, capsys):
    assert main(["record", "report", str(tmp_path)]) == EXIT_USAGE
    assert main(["record", "report", str(episodes), "--out", str(tmp_path / "nowhere" / "page.html")]) == 1
    assert main(["record", "info", str(episodes), str(episodes)]) == EXIT_USAGE
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("vla-mbpo: error: ") for line in errors)


# After a run of the stack


def test_after_a_run_its_own_episodes_are_reported(spec, tmp_path):
    before = Attempt(spec, rows=8, success=4).record(tmp_path)
    after = AfterRun(str(tmp_path), "sim_panda", "")
    new = Attempt(spec, rows=8, instruction="open the drawer").record(tmp_path)
    said = after.write(lambda: False)
    (out,) = tmp_path.glob("report_*.html")
    assert said == f"report: {out}"
    text = out.read_text()
    assert opened(text).row("attempts") == ["1"] and new.name in text and before.name not in text


def test_a_report_that_fails_or_is_interrupted_is_one_line(tmp_path):
    after = AfterRun(str(tmp_path), "sim_panda", "")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/episode.json").write_text("{")
    assert after.write(lambda: True) == "no report: interrupted"
    said = after.write(lambda: False)
    assert said.startswith("no report: ") and "episode.json" in said and "\n" not in said
    assert not list(tmp_path.glob("report_*"))


def test_where_nothing_was_recorded_there_is_nothing_to_say(tmp_path):
    assert AfterRun("", "sim_panda", "").write(lambda: False) == ""
    assert AfterRun(str(tmp_path / "episodes"), "sim_panda", "").write(lambda: False) == ""

"""`vla-mbpo promote` and `rollback`, with evaluations that were made before."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from promotion import Bench

from vla_mbpo.cli import EXIT_USAGE, main
from vla_mbpo.eval import command
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.releases import promote
from vla_mbpo.releases.parts import adopted
from vla_mbpo.releases.release import adopt


@pytest.fixture
def bench(tmp_path, policies):
    made = Bench(tmp_path, policies)
    assert made.first() == 0
    made.evaluated(made.store.release("live").policy.path, lambda task, seed: seed >= 8, lambda seed: seed == 0)
    return made


def test_a_better_candidate_goes_live_signed_off_and_with_its_report(bench, policies):
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    assert main(bench.words()) == 0
    live, state = bench.store.release("live"), bench.store.state()
    assert live.policy.version == policies["new"].version
    assert bench.store.release(state.previous).policy.version == policies["old"].version
    decision = live.bundle.manifest["decision"]
    assert all(check["ok"] for check in decision["checks"]) and decision["signed_off_by"] and decision["date"]
    report = json.loads((live.path / "report.json").read_text())
    assert report["accepted"] and report["comparison"]["gain"][0] == 0.4 and report["comparison"]["n"] == 40
    assert {"report.json", "report.html"} <= set(live.bundle.manifest["files"])


def test_the_report_is_one_page_without_scripts(bench, policies):
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    main(bench.words())
    page = (bench.store.find("live") / "report.html").read_text()
    assert "goes live" in page and policies["old"].version in page and "push" in page
    assert not re.search(r"<script|https?://|<link|<img|@import", page)


@pytest.mark.parametrize(
    ("solves", "costs", "limit"),
    [
        (lambda task, seed: seed >= 8, lambda seed: 0, "success gain"),
        (lambda task, seed: task == "push" or seed >= 10, lambda seed: 0, "success of button: -0.100, required above"),
        (lambda task, seed: True, lambda seed: seed < 2, "cost events: 4 after 2, required at most 2"),
    ],
)
def test_a_refusal_names_the_limit_with_value_and_required_value(bench, policies, capfd, solves, costs, limit):
    bench.evaluated(policies["new"].path, solves, costs)
    assert main(bench.words()) == promote.EXIT_REFUSED
    refused = [line for line in capfd.readouterr().out.splitlines() if line.startswith("REFUSED")]
    assert any(limit in line for line in refused)
    assert bench.live == policies["old"].version and len(bench.store.names()) == 1


def test_an_evaluation_is_not_made_twice(bench, policies, monkeypatch):
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    monkeypatch.setattr(command, "_lockstep", lambda args, jobs: iter([pytest.fail("evaluated again")] if jobs else []))
    assert main(bench.words()) == 0


def test_after_a_rollback_the_one_before_is_live(bench, policies):
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    main(bench.words())
    assert main(["rollback", "--store", str(bench.store.folder), "--no-swap", "--reason", "test"]) == 0
    assert bench.live == policies["old"].version
    assert bench.store.state().history[-1]["reason"] == "test"


def test_without_a_release_before_there_is_no_rollback(bench, capfd):
    assert main(["rollback", "--store", str(bench.store.folder), "--no-swap"]) == EXIT_USAGE
    assert "no release was live before" in capfd.readouterr().err


def test_an_easier_opponent_than_the_live_policy_is_refused(bench, policies, capfd):
    assert main([*bench.words("new"), "--incumbent", str(policies["newer"].path)]) == EXIT_USAGE
    assert "is live" in capfd.readouterr().err


def test_the_live_policy_is_no_candidate(bench, capfd):
    assert main(bench.words("old")) == EXIT_USAGE
    assert "incumbent itself" in capfd.readouterr().err


def test_a_second_first_release_is_refused(bench, capfd):
    assert bench.first() == EXIT_USAGE
    assert "is live" in capfd.readouterr().err


def test_an_incumbent_becomes_the_first_release_so_that_one_can_go_back(tmp_path, policies):
    bench = Bench(tmp_path, policies)
    bench.evaluated(policies["old"].path, lambda task, seed: seed >= 8)
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    assert main([*bench.words(), "--incumbent", str(policies["old"].path)]) == 0
    assert bench.live == policies["new"].version
    assert bench.store.release(bench.store.state().previous).policy.version == policies["old"].version


def test_a_candidate_that_went_live_is_live_already(tmp_path, policies, capfd):
    """A loop that was killed right after the promotion asks again, with an incumbent that is live no longer."""
    bench = Bench(tmp_path, policies)
    bench.evaluated(policies["old"].path, lambda task, seed: seed >= 8)
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    words = [*bench.words(), "--incumbent", str(policies["old"].path)]
    assert main(words) == 0
    history = bench.store.state().history
    assert main(words) == 0
    assert "live already" in capfd.readouterr().out and bench.store.state().history == history


@pytest.fixture
def vetted(tmp_path, policies, tiny_world_model):
    """A live release with a world model, and how the candidate does with that."""
    made, model = Bench(tmp_path, policies), Bundle.load(tiny_world_model)
    mine = adopt(model, tmp_path / "mine", [policies["old"].version], "test")
    assert made.first("--world-model", str(mine.path)) == 0
    live = made.store.release("live")
    made.evaluated(live.policy.path, lambda task, seed: seed >= 8, world_model=live.world_model)
    made.theirs = adopted(policies["new"], str(tiny_world_model), "", [], 0.1, tmp_path / "theirs").world_model
    made.words_with = [*made.words(), "--world-model", str(tiny_world_model)]
    return made


def test_a_world_model_comes_along_and_names_the_candidate(vetted, policies):
    vetted.evaluated(policies["new"].path, lambda task, seed: True, world_model=vetted.theirs)
    assert main(vetted.words_with) == 0
    live = vetted.store.release("live")
    assert live.world_model.version == vetted.theirs.version
    assert policies["new"].version in live.world_model.manifest["policies"]


def test_a_world_model_that_knows_too_little_of_the_candidate_is_refused(vetted, policies, capfd):
    vetted.evaluated(policies["new"].path, lambda task, seed: True, world_model=vetted.theirs, unknown=1)
    assert main(vetted.words_with) == promote.EXIT_REFUSED
    assert "knows nothing of: 10.0%, required at most 5%" in capfd.readouterr().out
    assert vetted.live == policies["old"].version


def test_vetting_is_not_left_out(vetted, policies, capfd):
    vetted.evaluated(policies["new"].path, lambda task, seed: True)
    assert main(vetted.words()) == promote.EXIT_REFUSED
    assert "world model: without, required with one" in capfd.readouterr().out


def test_a_detector_needs_bands_of_this_candidate(bench, tiny_detector, capfd):
    assert main([*bench.words(), "--detector", str(tiny_detector)]) == EXIT_USAGE
    assert "--rollouts" in capfd.readouterr().err
    bands = str(tiny_detector.with_name("bands.json"))
    assert main([*bench.words(), "--detector", str(tiny_detector), "--bands", bands]) == EXIT_USAGE
    assert "new@" in capfd.readouterr().err


def test_without_a_recorded_parity_of_the_engine_it_is_refused(bench, policies, tmp_path, capfd):
    manifest = {k: v for k, v in policies["new"].manifest.items() if k not in ("parity", "files")}
    folder = tmp_path / "unknown"
    folder.mkdir()
    for name in policies["new"].manifest["files"]:
        (folder / name).write_bytes((policies["new"].path / name).read_bytes())
    write_manifest(folder, manifest)
    bench.evaluated(folder, lambda task, seed: True)
    assert main(["promote", "--candidate", str(folder), *bench.common()]) == promote.EXIT_REFUSED
    assert "engine parity: not recorded" in capfd.readouterr().out


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_promotion_killed_on_its_way_leaves_a_live_release_and_can_be_made_again(bench, policies, share):
    """Whole processes; every single moment of what is written: test_store.py."""
    bench.evaluated(policies["new"].path, lambda task, seed: True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import vla_mbpo.releases.promote"], check=True)
    start = time.monotonic() - begin  # what a promotion takes at least
    process = subprocess.Popen([sys.executable, "-m", "vla_mbpo.cli", *bench.words()], stdout=subprocess.DEVNULL)
    time.sleep(start * (0.8 + share))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bench.live in (policies["old"].version, policies["new"].version)
    if bench.live == policies["old"].version:
        assert main(bench.words()) == 0
    assert bench.live == policies["new"].version

"""Pages of training runs and of evaluations."""

import json
from pathlib import Path

import numpy as np
import pytest
from report_samples import opened

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.reports.evaluation import evaluation_page
from vla_mbpo.reports.training import after_run, write

RESULT = Path(__file__).parents[2] / "benchmarks/results/sft_full.json"


@pytest.fixture
def run(tmp_path):
    """A run of dream RL whose log is gone."""
    state = {
        "step": 80, "history": [{"step": s, "policy": -0.1 * s, "kl": 0.2, "samples_per_s": 8.0} for s in (50, 100)],
        "recipe": {"data": [str(tmp_path / "logged")], "policy": "few", "vetting": "world_model", "samples": 960,
                   "batch": 12, "robot": "sim_panda", "seed": 7},
        "observations": 70,
        "log": {"attempts": 4, "failures": 0.5, "admission": {"auc": 0.92}, "recap": {"better": 3},
                "episodes": {"success": 0.5, "looks": {"first": 3, "middle": 2, "last": 1}, "tasks": {"button": 4}}},
        "refills": [{"step": 0, "cost": 0.03, "cost_share": 0.938, "kept": 0.68, "multiplier": 0.2338,
                     "rows_saved": -0.0},
                    {"step": 8, "cost": 0.07, "cost_share": 0.9865, "kept": 0.77, "multiplier": 0.2725}],
        "rounds": [{"sft": {"samples": 90000}, "observations": 50}, {"dream_rl": {"kl": 0.3}, "start": "few@1"}],
    }  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def test_the_page_of_a_run_has_what_the_run_says(run):
    page = opened(write(run).read_text())
    assert page.row("optimiser steps") == ["80 of 80"] and page.row("seed") == ["7"]
    assert page.row("world model on the log: auc") == ["0.92"] and page.row("looks") == ["3", "2", "1"]
    assert page.row("better") == ["3"]
    assert page.row("step") == ["cost_share", "multiplier", "kept", "rows_saved", "cost"]
    assert page.row("0") == ["0.938", "0.2338", "0.68", "0", "0.03"]
    assert page.row("8") == ["0.9865", "0.2725", "0.77", "", "0.07"]
    assert "Round 2: dream_rl, start" in page.text and "No pictures: data: " in page.text
    plots = [drawing["aria-label"].split(".")[0] for drawing in page.all("svg") if drawing.get("role") == "img"]
    assert plots == ["policy", "kl", "cost", "cost_share", "kept", "multiplier", "rows_saved"]


def test_the_world_model_imagines_chunks_of_the_log(run, spec, tiny_world_model, tmp_path):
    rng, rows, looks = np.random.default_rng(0), 32, 4
    folder = tmp_path / "logged"
    folder.mkdir()
    head, wrist = rng.integers(0, 256, (2, looks, 32, 32, 3), np.uint8)
    body = {"joints": np.tile(spec.home, (looks, 1)), "velocities": np.zeros((looks, 7)), "gripper": np.zeros(looks)}
    told = {"set_point": np.tile(spec.home, (rows, 1)), "opening": np.zeros(rows), "cost": np.ones(rows, np.uint8)}
    at, facts = 8 * np.arange(looks), {"task": "button", "success_row": -1}
    np.savez(folder / "few_button_1.npz", at=at, head=head, wrist=wrist, **body, **told, **facts)
    page = opened(write(run, world_model=str(tiny_world_model)).read_text())
    assert len(page.all("img")) == 6 and "few_button_1, which did not succeed" in page.text
    assert "Seen at 1.2 s: 16 cost events" in page.text and "No pictures" not in page.text


def test_dreams_that_the_run_has_kept_are_shown_the_last_ones(run):
    (run / "dreams").mkdir()
    pictures, numbers = np.zeros((2, 3, 8, 8, 3), np.uint8), np.full((2, 2), 0.25)
    for step, cost in ((80, 0.5), (120, 0.25)):
        views = {"head": pictures, "wrist": pictures, "to_go": 40 * numbers}
        np.savez(run / "dreams" / f"{step}.npz", **views, cost=np.full((2, 2), cost))
    page = opened(write(run).read_text())
    assert "Dreams at step 120" in page.text and len(page.all("img")) == 2 * 3 * 2
    assert page.text.count("<figcaption>Imagined after chunk 2: 10 rows to go, cost 25.0%") == 2
    (run / "dreams/200.npz").write_bytes(b"PK")
    assert "a file of dreams (" in opened(write(run).read_text()).text


def test_a_page_that_cannot_be_written_ends_no_run(run, tmp_path):
    with pytest.raises(ConfigError, match="state.json"):
        write(tmp_path)
    assert after_run(tmp_path).startswith("no report: ConfigError: run")
    (run / "report.html").mkdir()
    assert after_run(run).startswith("no report: ")
    assert sorted(file.name for file in run.iterdir()) == ["report.html", "state.json"]


def test_a_short_run_of_another_stage_has_a_page(run):
    (run / "state.json").write_text(json.dumps({"recipe": {"data": []}, "history": []}))
    assert "Nothing was reported" in opened(write(run).read_text()).text


def test_the_page_of_an_evaluation_has_the_numbers_of_its_file():
    result = json.loads(RESULT.read_text())
    page = opened(evaluation_page(result))
    row, (low, high) = result["tasks"]["drawer"], result["tasks"]["drawer"]["interval"]
    shown = page.row("drawer")
    assert shown[:3] == [
        f"{row['successes']} of {row['n']}",
        f"{row['successes'] / row['n']:.1%}",
        f"{low:.3f} to {high:.3f}",
    ]
    assert page.row("green_bin (held out)")[0] == "50 of 50"
    assert page.row("success on training tasks") == [
        "{:.1%} ({:.3f} to {:.3f})".format(result["success_rate"], *result["interval"])
    ]

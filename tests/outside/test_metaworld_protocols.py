"""Reduced versions of the protocols, whole: real Meta-World, real training, nothing good comes of it. Slow."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("metaworld", reason="needs Meta-World: `make metaworld-test`")
pytestmark = pytest.mark.slow

TASKS = ("--tasks", "drawer-close,push")  # the one is learned at once, the other not: both outcomes are there
ONE = ("--workers", "1", "--threads", "1")


def run(*argv: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "benchmarks.metaworld", *map(str, argv)], check=True, env=environment)


def test_mt50_with_one_camera(tmp_path):
    small = ("--demos", "3", "--samples", "256", "--batch", "16", "--episodes", "2", "--cameras", "1")
    run("mt50", "--out", tmp_path, *TASKS, *small, *ONE)
    found = json.loads((tmp_path / "mt50.json").read_text())["metrics"]
    assert found["groups"]["easy"]["n"] == found["groups"]["hard"]["n"] == 2
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["state"] == "done" and set(progress["seconds"]) == {"demos", "sft", "export", "evaluate", "score"}
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    run("mt50", "--out", tmp_path, *TASKS, *small, *ONE)  # all is done
    assert {file: file.stat().st_mtime_ns for file in written} == written


# So few attempts do not say whether a world model's gap is within the limit.
DREAM = ("--expert", "12", "--policy", "40", "--random", "4", "--seeds", "1", "--samples", "12800", "--more", "640",
         "--pictures", "1920", "--looks", "4800", "--lessons", "320", "--dreams", "80", "--episodes", "2",
         "--lesson", "gap=1,policy_weight=0,batch=32,seen=8", "--dream",
         "gap=1,states=16,group=4,updates=4,batch=8,kl=0.3,centred=1,seen=8,learning_rate=1e-4")  # fmt: skip


@pytest.fixture(scope="module")
def dreamt(tmp_path_factory):
    """The dream protocol."""
    folder = tmp_path_factory.mktemp("dream")
    run("dream-rl", "--out", folder, *TASKS, *DREAM, *ONE)
    return folder


def test_dream_rl(dreamt):
    found = json.loads((dreamt / "dream_rl.json").read_text())["metrics"]
    assert found["n"] == 4 and len(found["gain"]) == 3 and len(found["gain_of_each_seed"]) == 1
    of_control = json.loads((dreamt / "compare_control.json").read_text())["metrics"]
    assert of_control["n"] == 4 and of_control["success_before"] == found["success_before"]


def test_vetting(dreamt, tmp_path):
    small = ("--branches", "2", "--looks", "640", "--k", "2", "--episodes", "1")
    run("vetting", "--out", tmp_path, "--start", dreamt, *TASKS, *small, *ONE)
    found = json.loads((tmp_path / "vetting.json").read_text())
    assert set(found["variants"]) == {"k1", "k2", "k2_random", "k2_imagination"}
    assert found["comparison"]["k2_imagination"]["n"] == 2


def test_detector(dreamt, tmp_path):
    small = ("--train", "48", "--calibration", "40", "--episodes", "8", "--samples", "640", "--unseen", "0")
    seed0 = dreamt / "seed0"
    start = ("--bundle", seed0 / "cloned", "--world-model", seed0 / "vetting")
    run("detector", "--out", tmp_path, *start, *TASKS, *small, "--workers", "1")
    found = json.loads((tmp_path / "detector.json").read_text())["metrics"]
    seen = found["all tasks"]["seen"]
    assert seen["n"] == 16 and "imagined" in seen["end"]
    assert all(0.0 <= row[0] <= 1.0 for when in ("end", "early") for row in seen[when].values())

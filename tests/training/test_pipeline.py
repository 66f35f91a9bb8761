"""The training loop: its stages in order, once each, also when it was cut off; and as a job that can be set aside."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.training.job import TrainingJob
from vla_mbpo.training.pipeline import LoopRecipe, Pipeline, stages

FAKE = """
import sys, pathlib
here = pathlib.Path(sys.argv[1])
with (here / "ran").open("a") as log: log.write(" ".join(sys.argv[2:4]) + chr(10))
plan = here / "plan"
for line in plan.read_text().splitlines() if plan.exists() else []:
    word, code = line.split("=")
    if word in sys.argv[2:]: sys.exit(int(code))
"""


@pytest.fixture
def made(tmp_path):
    """A loop whose commands only note that they ran; and what has run."""

    def ran():
        file = tmp_path / "ran"
        return file.read_text().splitlines() if file.exists() else []

    recipe = LoopRecipe(tmp_path / "loop", detector="detector_few")
    return lambda r=recipe: Pipeline(r, (sys.executable, "-c", FAKE, str(tmp_path))), ran, recipe


ALL = ["train rollouts", "train dream-rl", "train export", "train rollouts", "promote --candidate"]


def test_stages_run_in_order(made):
    loop, ran, _ = made
    assert loop().run() == 0
    assert ran() == ALL
    assert loop().progress["seconds"].keys() == {"record", "dream_rl", "export", "calibrate", "promote"}


def test_a_loop_that_was_cut_off_goes_on_with_the_stage_it_was_in(made, tmp_path):
    loop, ran, _ = made
    (tmp_path / "plan").write_text("dream-rl=9")
    with pytest.raises(ConfigError, match=r"loop\.dream_rl.*9"):
        loop().run()
    (tmp_path / "plan").unlink()
    assert loop().run() == 0
    assert ran() == [*ALL[:2], *ALL[1:]]


def test_a_candidate_that_is_refused_is_an_outcome_and_no_error(made, tmp_path):
    loop, _, recipe = made
    (tmp_path / "plan").write_text("promote=1")
    assert loop().run() == 1
    assert json.loads((recipe.out / "progress.json").read_text())["state"] == "refused"


def test_another_recipe_in_the_same_folder_is_refused(made):
    loop, _, recipe = made
    loop().run()
    with pytest.raises(ConfigError, match="samples"):
        loop(replace(recipe, samples=7))


def test_a_refreshed_world_model_is_the_one_that_is_dreamed_in_and_promoted(tmp_path):
    made = {s.name: s.argv for s in stages(LoopRecipe(tmp_path, refresh=10))}
    assert list(made) == ["record", "refresh", "export_world_model", "dream_rl", "export", "promote"]
    after = {"dream_rl": "--vetting", "promote": "--world-model"}
    for name, option in after.items():
        assert made[name][made[name].index(option) + 1] == str(tmp_path / "vetting")


COUNT = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
count = out / "count"
while True:
    count.write_text(str(int(count.read_text()) + 1) if count.exists() and count.read_text() else "1")
    time.sleep(0.01)
"""


@pytest.fixture
def job(tmp_path):
    made = TrainingJob(tmp_path, command=(sys.executable, "-c", COUNT))
    yield made
    made.stop()


def count(job):
    file = job.out / "count"
    return int(file.read_text() or 0) if file.exists() else 0


def moves(job, seconds=0.5):
    before = count(job)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if count(job) > before + 1:
            return True
        time.sleep(0.02)
    return False


def test_a_job_stands_still_while_it_is_set_aside_and_then_goes_on(job):
    job.start()
    assert moves(job, 10)
    job.pause()
    time.sleep(0.1)
    assert not moves(job)
    job.start()
    assert moves(job, 10)


def test_a_job_ends_also_while_it_is_set_aside(job):
    job.start()
    assert moves(job, 10)
    job.pause()
    job.stop()
    assert job.state == "stopped" and not moves(job)
    job.start()
    assert moves(job, 10)


def test_a_job_that_dies_is_noticed(job):
    job.start()
    assert moves(job, 10)
    os.killpg(job._child.pid, signal.SIGKILL)
    job._child.wait()
    job.poll()
    assert job.state == "failed"


def test_a_job_ends_with_whoever_started_it(tmp_path):
    text = (
        "import sys, pathlib, time\nfrom vla_mbpo.training.job import TrainingJob\n"
        f"TrainingJob(pathlib.Path({str(tmp_path)!r}), command=(sys.executable, '-c', {COUNT!r})).start()\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", text])
    watched = TrainingJob(tmp_path)
    assert moves(watched, 20)
    parent.kill()
    parent.wait()
    time.sleep(0.3)
    assert not moves(watched)


def test_what_cannot_be_done_is_said(job):
    with pytest.raises(ConfigError, match="running"):
        job.pause()
    job.start()
    with pytest.raises(ConfigError, match="not running"):
        job.start()

"""The training loop: its stages in order, once each, also when it was cut off; and as a job that can be set aside."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.sim.tasks import TRAINING_TASKS
from vla_mbpo.training.job import TrainingJob
from vla_mbpo.training.pipeline import Pipeline
from vla_mbpo.training.plan import LoopRecipe, Stage, stages

FAKE = """
import sys, pathlib
here = pathlib.Path(sys.argv[1])
with (here / "ran").open("a") as log: log.write(" ".join(sys.argv[2:4]) + chr(10))
plan = here / "plan"
for line in plan.read_text().splitlines() if plan.exists() else []:
    word, code = line.split("=")
    if word in sys.argv[2:]:
        print("vla-mbpo: error: gap: 0.3 is too much", file=sys.stderr)
        sys.exit(int(code))
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


def test_a_loop_whose_candidate_is_live_is_over(made, tmp_path):
    """Started again it asked for the promotion once more, in which its incumbent was live no longer, and failed."""
    loop, ran, recipe = made
    loop().run()
    before = (recipe.out / "progress.json").read_text()
    (tmp_path / "plan").write_text("promote=64")
    assert loop().run() == 0
    assert ran() == ALL and (recipe.out / "progress.json").read_text() == before


@pytest.mark.parametrize("text", ["seed=3", "samples=5", "threads=1", "nonsense=1"])
def test_options_that_dream_rl_does_not_take_are_refused_before_anything_runs(tmp_path, capsys, text):
    """After all attempts had been made."""
    assert main(["train", "loop", "--out", str(tmp_path / "loop"), "--options", text]) == 64
    assert "--options" in capsys.readouterr().err and not (tmp_path / "loop").exists()


@pytest.mark.parametrize("text", ["branchings=6", "warmup=0", "group=1", "noise=nan"])
def test_numbers_that_dream_rl_cannot_use_are_refused_before_anything_runs(tmp_path, capsys, text):
    """After all attempts had been made, or in the middle of dreaming."""
    assert main(["train", "loop", "--out", str(tmp_path / "loop"), "--options", text]) == 64
    assert text.split("=")[0] in capsys.readouterr().err and not (tmp_path / "loop").exists()


def test_a_quotation_that_is_not_closed_is_refused_with_the_option_named(tmp_path, capsys):
    """Incident: all that was said was `No closing quotation`."""
    assert main(["train", "loop", "--out", str(tmp_path / "loop"), "--limits", "--margin '0.1"]) == 64
    said = capsys.readouterr().err
    assert "--limits" in said and "--margin" in said and "No closing quotation" in said


@pytest.mark.parametrize("text", ["", '{"recipe": {', "[]", "{}", '{"recipe": {}, "seconds": 3, "state": "failed"}'])
def test_a_damaged_progress_is_refused_with_the_file_named(made, text):
    """Incident: it ended in a JSONDecodeError, or in a KeyError."""
    loop, _, recipe = made
    recipe.out.mkdir()
    (recipe.out / "progress.json").write_text(text)
    with pytest.raises(ConfigError, match=r"--out: .*progress\.json.*or a new folder"):
        loop()


@pytest.mark.parametrize("state", [None, "no JSON", "{}", '{"recipe": {"autoencoder": "a"}}'])
def test_a_world_model_that_cannot_be_refreshed_is_refused_with_the_option_named(tmp_path, state):
    """Incident: a folder that is no run of a world model was a bare FileNotFoundError."""
    if state is not None:
        (tmp_path / "state.json").write_text(state)
    with pytest.raises(ConfigError, match=f"world_model: '{tmp_path}' is not valid; a run folder of"):
        stages(LoopRecipe(tmp_path / "loop", refresh=10, world_model=str(tmp_path)))


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


MIDWAY = ["train rollouts", "train world-model", "train export", "train dream-rl", "train export"]


@pytest.fixture
def twice(tmp_path, made):
    """A loop that stops midway, and what has run; its commands only note it."""
    loop, ran, _ = made
    recipe = LoopRecipe(tmp_path / "loop", rollouts=3, refresh=10, midway=2, samples=101, seed=500)
    return lambda: loop(recipe), ran, recipe


def options(stage, name):
    """What is said after an option, up to the next one."""
    words = stage.argv[stage.argv.index(name) + 1 :]
    return words[: next((i for i, word in enumerate(words) if word.startswith("--")), None)]


def test_midway_all_is_done_again_before_the_promotion(twice):
    loop, ran, _ = twice
    assert loop().run() == 0
    assert ran() == [*MIDWAY, *MIDWAY, "promote --candidate"]
    assert len(loop().progress["seconds"]) == 11


@pytest.mark.parametrize("stage", ["midway", "logged_2", "world_model_2", "vetting_2", "dream_rl_2", "candidate"])
def test_a_loop_that_was_cut_off_after_half_of_the_way_does_nothing_twice(twice, tmp_path, stage):
    loop, ran, recipe = twice
    plan, folder = tmp_path / "plan", str(recipe.out / stage)
    plan.write_text(f"{folder}=9")  # the first stage that knows the folder is the one that makes it
    with pytest.raises(ConfigError, match=r"loop\..*9"):
        loop().run()
    cut = ran()
    plan.unlink()
    assert loop().run() == 0
    assert ran() == [*cut, *[*MIDWAY, *MIDWAY, "promote --candidate"][len(cut) - 1 :]]


def test_the_second_half_is_of_the_policy_of_the_first_and_of_its_own_rollouts(twice):
    """A log of another policy than the one that dreams begin with is refused by dream RL."""
    _, _, recipe = twice
    made, out = {stage.name: stage for stage in stages(recipe)}, recipe.out
    policy = options(made["export"], "--out")
    assert options(made["record_2"], "--episodes") == (f"{policy[0]}=2",)
    assert options(made["dream_rl_2"], "--policy") == policy
    assert options(made["dream_rl_2"], "--data") == options(made["record_2"], "--out") == (str(out / "logged_2"),)
    assert options(made["promote"], "--candidate") == options(made["export_2"], "--out") == (str(out / "candidate"),)
    assert options(made["promote"], "--incumbent") == (recipe.policy,)


def test_the_second_half_has_the_rest_of_the_samples_and_other_scenes(twice):
    _, _, recipe = twice
    made = {stage.name: stage for stage in stages(recipe)}
    samples = [int(options(made[name], "--samples")[0]) for name in ("dream_rl", "dream_rl_2")]
    assert sum(samples) == recipe.samples and abs(samples[0] - samples[1]) <= 1
    first, second = (int(options(made[name], "--seed")[0]) for name in ("record", "record_2"))
    assert second == first + recipe.rollouts * len(TRAINING_TASKS)


def test_the_world_model_is_refreshed_again_from_where_it_was_and_on_both_logs(twice):
    _, _, recipe = twice
    made, out = {stage.name: stage for stage in stages(recipe)}, recipe.out
    assert options(made["refresh_2"], "--init") == options(made["refresh"], "--out") == (str(out / "world_model"),)
    assert options(made["refresh_2"], "--data") == (str(out / "logged"), str(out / "logged_2"))
    assert options(made["export_world_model_2"], "--policies") == (f"{recipe.policy},{out / 'midway'}",)
    assert options(made["dream_rl_2"], "--world-model") == (str(out / "world_model_2"),)
    for name, option in {"dream_rl_2": "--vetting", "promote": "--world-model"}.items():
        assert options(made[name], option) == (str(out / "vetting_2"),)


def test_a_world_model_that_is_refused_midway_ends_the_loop_and_it_says_why(twice, tmp_path, capfd):
    loop, ran, recipe = twice
    (tmp_path / "plan").write_text(f"{recipe.out / 'dream_rl_2'}=64")
    with pytest.raises(ConfigError, match=r"loop\.dream_rl_2.*64"):
        loop().run()
    said = json.loads((recipe.out / "progress.json").read_text())
    assert (said["state"], said["reason"]) == ("failed", "dream_rl_2 ended with 64: gap: 0.3 is too much")
    assert "gap: 0.3 is too much" in capfd.readouterr().err and len(ran()) == 9


@pytest.mark.parametrize(
    ("changed", "why"), [({"midway": -1}, "midway"), ({"refresh": 0}, "not refreshed"), ({"seed": 999_970}, "seed")]
)
def test_a_loop_that_cannot_be_is_refused_before_anything_runs(twice, changed, why):
    _, _, recipe = twice
    with pytest.raises(ConfigError, match=why):
        stages(replace(recipe, **changed))


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


@pytest.mark.parametrize(
    ("said", "code", "state"),
    [("live", 0, "live"), ("refused", 1, "refused"), ("live", 64, "failed"), ("refused", 64, "failed")],
)
def test_what_a_loop_before_came_to_is_not_what_this_one_did(tmp_path, said, code, state):
    """One that could not even begin was told to be live: progress.json was that of the loop before."""
    (tmp_path / "progress.json").write_text(json.dumps({"state": said}))
    job = TrainingJob(tmp_path, command=(sys.executable, "-c", f"raise SystemExit({code})"))
    job.start()
    job._child.wait()
    reason = job.poll()["reason"]
    assert job.state == state and ("ended with 64" in reason) == (state == "failed")


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


@dataclass(frozen=True)
class OtherRecipe:
    out: Path
    start: Path


def test_another_plan_has_stages_and_commands_of_its_own_and_is_done_in_the_end(tmp_path):
    own = (sys.executable, "-c", FAKE, str(tmp_path), "own")
    planned = [Stage("usual", ("train", "sft")), Stage("other", ("score",), command=own)]
    recipe = OtherRecipe(tmp_path / "out", tmp_path)
    command = (sys.executable, "-c", FAKE, str(tmp_path))
    for _ in range(2):  # the second time there is nothing left to do
        loop = Pipeline(recipe, command, planned)
        assert loop.run() == 0 and loop.progress["state"] == "done"
    assert (tmp_path / "ran").read_text().splitlines() == ["train sft", "own score"]

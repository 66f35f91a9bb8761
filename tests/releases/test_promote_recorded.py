"""Two policies compared by recorded attempts: the simulator has no place for most arms."""

import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from promotion import Bench

from vla_mbpo.cli import EXIT_USAGE, main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.releases import promote
from vla_mbpo.releases.decision import Result
from vla_mbpo.releases.recorded import sides
from vla_mbpo.sim.tasks import TASKS

PRESS, OPEN = "press the button", "open the drawer"


@dataclass
class Day:
    """A folder of recordings, in the order in which they are added."""

    folder: Path
    number: count = field(default_factory=count)

    def add(self, version, outcome, instruction=PRESS, **changes):
        content = {
            "format": 1, "state": "complete", "kind": "attempt", "instruction": instruction, "outcome": outcome,
            "message": "", "bag": "bag.mcap", "reasons": [], "cost_events": [], "policy_versions": [version],
            "releases": [], "interventions": [], "decisions": {}, "vetoes": {}, "rows": {}, "topics": {},
            "chunk_sets": 10, "begin_ns": 0, "end_ns": 1, "bytes": 0, "duration_s": 1.0,
        }  # fmt: skip
        episode = self.folder / f"20261129_{next(self.number):04d}"
        episode.mkdir(parents=True)
        (episode / "episode.json").write_text(json.dumps(content | changes))

    def compared(self, *versions):
        return sides([str(self.folder)], versions, TASKS)


@pytest.fixture
def day(tmp_path):
    return Day(tmp_path / "day")


def test_of_each_task_both_have_the_first_attempts_in_the_order_of_their_recording(day):
    for outcome in ("failed", "succeeded", "succeeded"):
        day.add("old", outcome)
    for outcome in ("succeeded", "failed"):
        day.add("new", outcome)
    day.add("third", "failed", OPEN)
    (old, _), (new, _) = sides([str(day.folder)] * 2, ["old", "new"], TASKS)  # each attempt counts once
    assert old == {("button", 0): Result(False), ("button", 1): Result(True)}
    assert new == {("button", 0): Result(True), ("button", 1): Result(False)}


def test_attempts_of_two_cells_that_began_in_the_same_second_are_two(tmp_path):
    """Incident (review): they have the same name, and one of them was left out without a word."""
    cells = [Day(tmp_path / name) for name in ("cell1", "cell2")]
    for cell, outcome in zip(cells, ("succeeded", "failed"), strict=True):
        cell.add("old", outcome)
        cell.add("new", outcome)
    (old, _), _ = sides([str(cell.folder) for cell in cells], ["old", "new"], TASKS)
    assert list(old.values()) == [Result(True), Result(False)]


def test_help_of_a_person_is_no_success_and_costs_are_counted(day):
    day.add("old", "succeeded", interventions=[{"begin_ns": 1, "end_ns": 2}])
    day.add("new", "succeeded", cost_events=["drop", "drop"])
    (old, _), (new, _) = day.compared("old", "new")
    assert old == {("button", 0): Result(False)} and new == {("button", 0): Result(True, 2)}


@pytest.mark.parametrize("span, success", [((1, 10), True), ((20, 25), True), ((1, 11), False), ((19, 25), False)])
def test_a_person_before_or_after_an_attempt_is_no_help(day, span, success):
    """Incident (review): whoever had brought the arm to its start had helped, by the second before the attempt."""
    spans = [{"begin_ns": span[0], "end_ns": span[1]}]
    for version in ("old", "new"):
        day.add(version, "succeeded", interventions=spans, began_ns=10, ended_ns=20)
    assert day.compared("old", "new")[0][0] == {("button", 0): Result(success)}


@pytest.mark.parametrize("outcome", ["aborted", ""])
def test_an_attempt_that_nobody_judged_is_not_left_out(day, outcome):
    """Else ending what goes wrong would improve the rate."""
    day.add("old", "succeeded")
    day.add("new", outcome)
    with pytest.raises(ConfigError, match=r"outcome: '20261129_0001 \((aborted|none)\)' is not valid"):
        day.compared("old", "new")


def test_both_have_to_be_there_in_the_same_tasks(day):
    day.add("old", "succeeded")
    with pytest.raises(ConfigError, match="tasks button and none"):
        day.compared("old", "new")
    day.add("new", "succeeded")
    day.add("new", "succeeded", OPEN)  # nobody knows how the other one would do
    with pytest.raises(ConfigError, match="tasks button and button, drawer"):
        day.compared("old", "new")


def test_an_attempt_of_several_policies_is_refused(day):
    day.add("old", "succeeded")
    day.add("new", "failed", policy_versions=["old", "new"])
    with pytest.raises(ConfigError, match="policy_versions: '20261129_0001'"):
        day.compared("old", "new")


@pytest.fixture
def bench(tmp_path, policies):
    made = Bench(tmp_path, policies)
    assert made.first() == 0
    return made


@pytest.mark.parametrize("better", [True, False])
def test_the_better_of_two_on_the_arm_goes_live(bench, day, policies, capfd, better):
    """Nothing is simulated: with `--robot ur5e` there would be nothing to simulate."""
    for i in range(20):
        day.add(policies["old"].version, "succeeded" if i % 2 else "failed")
        day.add(policies["new"].version, "succeeded" if better or i % 2 else "failed")
    code = main([*bench.words(), "--robot", "ur5e", "--recorded", str(day.folder)])
    assert code == (0 if better else promote.EXIT_REFUSED), capfd.readouterr().err
    assert bench.live == policies["new" if better else "old"].version
    if better:
        live = bench.store.release("live").path
        assert json.loads((live / "report.json").read_text())["scenes"]["kind"] == "recorded"
        assert "Paired by order" in (live / "report.html").read_text()


def test_too_few_attempts_are_no_comparison(bench, day, policies, capfd):
    for name, outcome in (("old", "failed"), ("new", "succeeded")):
        day.add(policies[name].version, outcome)
    assert main([*bench.words(), "--recorded", str(day.folder)]) == promote.EXIT_REFUSED
    assert "REFUSED attempts per task: 1, required at least 20" in capfd.readouterr().out


def test_a_world_model_is_not_judged_by_recordings(bench, day, tiny_world_model):
    """Incident (review): it counted as one that knows all, since nothing had been vetted by it."""
    words = ["--recorded", str(day.folder), "--world-model", str(tiny_world_model)]
    assert main([*bench.words(), *words]) == EXIT_USAGE


def test_a_folder_without_recordings_is_refused(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main([*bench.words(), "--recorded", str(tmp_path / "empty")]) == EXIT_USAGE

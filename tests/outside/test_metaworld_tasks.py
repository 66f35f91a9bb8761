"""The tasks, and success by difficulty group. No simulator."""

from collections import Counter

import pytest

from benchmarks.metaworld.scores import by_group
from benchmarks.metaworld.tasks import DREAM_TASKS, GROUP_OF, GROUPS, INSTRUCTIONS, ROBOT
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.instructions import instruction_of, tasks_of
from vla_mbpo.sim.tasks import TASKS


def test_there_are_fifty_tasks_in_the_groups_of_the_literature():
    assert Counter(GROUP_OF.values()) == {"easy": 28, "medium": 11, "hard": 6, "very hard": 5}
    assert set(DREAM_TASKS) <= set(INSTRUCTIONS)


def test_no_two_tasks_are_called_the_same_as_a_policy_reads_them():
    words = Vocabulary.of(list(INSTRUCTIONS.values()))
    assert len({tuple(words.encode(text)) for text in INSTRUCTIONS.values()}) == len(INSTRUCTIONS)


def test_a_robots_tasks_stand_beside_it_or_are_the_tabletops():
    assert tasks_of("sim_panda") is TASKS
    known = tasks_of(ROBOT)
    assert {name: task.instruction for name, task in known.items()} == INSTRUCTIONS
    assert not any(task.held_out for task in known.values())


def test_a_task_file_without_instructions_is_named(tmp_path):
    (tmp_path / "robot.yaml").touch()
    (tmp_path / "tasks.yaml").write_text("reach: {group: easy}\n")
    with pytest.raises(ConfigError, match=r"tasks\.yaml.*instruction"):
        tasks_of(str(tmp_path))


def test_an_episode_says_itself_what_it_was_about():
    assert instruction_of({"task": "reach", "instruction": "reach the goal"}) == "reach the goal"
    assert instruction_of({"task": "button"}) == TASKS["button"].instruction


def test_groups_count_alike_however_many_tasks_they_have():
    rows = {name: {"n": 10, "successes": 10 if GROUP_OF[name] == "easy" else 0} for name in INSTRUCTIONS}
    found = by_group(rows)
    assert [found["groups"][group]["rate"] for group in GROUPS] == [1.0, 0.0, 0.0, 0.0]
    assert found["mean_of_groups"][0] == 0.25 and found["mean_of_tasks"][0] == 28 / 50
    assert found["mean_of_groups"][1] <= 0.25 <= found["mean_of_groups"][2]
    low, high = found["groups"]["easy"]["interval"]
    assert low < 1.0 and high == 1.0

"""Nothing worse goes live: properties of the decision."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.releases.decision import Limits, Result, accepted, compare, decide

TASKS = ("push", "button", "green_bin")
HELD_OUT = ("green_bin",)
PARITY = {"encoder": 5e-6, "step": 3e-6}
LIMITS = Limits(episodes=1)


def result():
    return st.builds(Result, st.booleans(), st.integers(0, 3))


def sides(least=1, most=25):
    """Results of both sides on the same scenes."""

    def paired(n):
        scenes = [(task, seed) for task in TASKS for seed in range(n)]
        side = st.lists(result(), min_size=len(scenes), max_size=len(scenes))
        return st.tuples(side, side).map(lambda two: tuple(dict(zip(scenes, one, strict=True)) for one in two))

    return st.integers(least, most).flatmap(paired)


def goes_live(before, after, limits=LIMITS, parity=PARITY, further=()):
    return accepted(decide(compare(before, after, HELD_OUT), limits, parity, further))


def rate(side, tasks=("push", "button")):
    found = [one.success for (task, _), one in side.items() if task in tasks]
    return sum(found) / len(found)


def good(n=40):
    """A pair that goes live: six more successes in each training task, no cost."""
    scenes = [(task, seed) for task in TASKS for seed in range(n)]
    before = {scene: Result(scene[1] >= 6) for scene in scenes}
    return before, {scene: Result(True) for scene in scenes}


def test_a_better_candidate_goes_live():
    assert goes_live(*good())


@settings(max_examples=30)  # each draws a bootstrap
@given(sides())
def test_nobody_beats_itself(two):
    assert not goes_live(two[0], two[0])


@settings(max_examples=30)  # each draws a bootstrap
@given(sides())
def test_of_two_at_most_one_beats_the_other(two):
    before, after = two
    assert not (goes_live(before, after) and goes_live(after, before))


@settings(max_examples=30)  # each draws a bootstrap
@given(sides())
def test_what_goes_live_is_better_nowhere_much_worse_and_costs_no_more(two):
    before, after = two
    if goes_live(before, after):
        assert rate(after) > rate(before)
        assert all(rate(after, (task,)) - rate(before, (task,)) > -0.05 for task in TASKS)
        training = [scene for scene in before if scene[0] not in HELD_OUT]
        assert sum(after[s].costs for s in training) <= sum(before[s].costs for s in training)


@settings(max_examples=30)  # each draws a bootstrap
@given(sides(), st.data())
def test_one_more_failure_of_the_candidate_never_helps_it(two, data):
    before, after = two
    assume(not goes_live(before, after))
    scene = data.draw(st.sampled_from(sorted(before)))
    assert not goes_live(before, {**after, scene: replace(after[scene], success=False)})


@given(st.integers(0, 4), st.integers(60, 400))
def test_a_handful_of_scenes_is_no_proof_however_many_were_equal(wins, n):
    """The bootstrap alone lets three wins without a loss pass; the sign test does not."""
    before = {("push", seed): Result(seed >= wins) for seed in range(n)}
    assert not goes_live(before, {scene: Result(True) for scene in before})


@pytest.mark.parametrize("task", TASKS)
def test_one_task_that_is_worse_by_five_points_is_enough_to_refuse(task):
    before, after = good()
    lost = [scene for scene in after if scene[0] == task and scene[1] >= 6][:8]
    after |= {scene: Result(False) for scene in lost}  # 6 won, 8 lost of 40: 5 points
    found = decide(compare(before, after, HELD_OUT), LIMITS, PARITY)
    assert f"success of {task}" in [check.name for check in found if not check.ok]


def test_one_more_cost_event_is_enough_to_refuse():
    before, after = good()
    before[("push", 0)] = Result(False, 2)
    assert goes_live(before, {**after, ("push", 0): Result(True, 2)})
    assert not goes_live(before, {**after, ("push", 0): Result(True, 3)})


def test_without_cost_events_before_there_may_be_none_after():
    before, after = good()
    assert not goes_live(before, {**after, ("push", 0): Result(True, 1)})


@pytest.mark.parametrize(
    "parity", [{}, {"step": 1e-3}, {"step": float("nan"), "encoder": 1e-6}, {"step": float("inf")}]
)
def test_an_engine_that_is_not_known_to_be_its_network_is_refused(parity):
    assert not goes_live(*good(), parity=parity)


def test_too_few_attempts_are_refused_with_the_number():
    found = decide(compare(*good(), HELD_OUT), Limits(episodes=50), PARITY)
    assert [str(check) for check in found if not check.ok] == ["attempts per task: 40, required at least 50"]


def test_other_scenes_are_no_pair():
    before, after = good()
    del after[("push", 3)]
    with pytest.raises(ConfigError, match="same scenes"):
        compare(before, after)


def test_held_out_tasks_are_not_in_the_average():
    before, after = good()
    with_failures = {scene: Result(scene[0] not in HELD_OUT) for scene in after}
    assert compare(before, with_failures, HELD_OUT).gain == compare(before, after, HELD_OUT).gain


def test_nothing_checked_is_not_accepted():
    assert not accepted([])

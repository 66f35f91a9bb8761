"""What people and safety layers said about logged chunks, row by row."""

import numpy as np
import pytest

from vla_mbpo.training.marks import Marks, steering

ROWS, H, K = 64, 16, 2


def write(folder, name="one", **changed):
    """An attempt of 64 rows, looked at every 8th; the arm moves evenly."""
    at = np.arange(0, ROWS, 8)
    plans = np.ones((len(at), K, H, 8), np.float32) * np.arange(1, K + 1)[:, None, None]
    arrays = {
        "at": at, "set_point": 0.01 * np.arange(ROWS)[:, None] * np.ones(7), "opening": np.zeros(ROWS),
        "joints": 0.1 * np.arange(len(at))[:, None] * np.ones(7, np.float32), "success_row": 60, "candidates": plans,
    }  # fmt: skip
    np.savez(folder / f"{name}.npz", **arrays | changed)
    return folder / f"{name}.npz"


def rows_of(*spans):
    found = np.zeros(ROWS, bool)
    for begin, end in spans:
        found[begin:end] = True
    return found


def looks(flags):
    """Rows of the looks that have a flag."""
    return [8 * number for number in range(len(flags)) if flags[number].any()]


def test_a_rollout_of_the_simulator_has_no_marks(tmp_path):
    file = write(tmp_path)
    with np.load(file) as arrays:
        np.savez(file, **{name: arrays[name] for name in arrays.files if name != "candidates"})
    found, none = Marks.read([file], H, 20), Marks.none(8, H, 8)
    assert not found.corrected.any() and not found.leading.any() and found.plan.shape == none.plan.shape
    assert found.own[:7].all() and not found.own[7, 8:].any()  # the attempt ends there


def test_a_turn_counts_without_the_waiting_at_its_ends():
    set_point = np.zeros((20, 7))
    set_point[6:9] = 0.02 * np.arange(1, 4)[:, None]
    set_point[9:] = 0.06
    set_point[12:] = 0.1
    opening = np.where(np.arange(20) < 14, 0.04, 0.0)
    human = np.zeros(20, bool)
    human[3:18] = True
    np.testing.assert_array_equal(np.flatnonzero(steering(human, set_point, opening)), np.arange(6, 15))


def test_a_person_who_never_moved_steered_nothing():
    assert not steering(np.ones(9, bool), np.zeros((9, 7)), np.zeros(9)).any()


def test_rows_that_a_person_steered_are_corrections(tmp_path):
    found = Marks.read([write(tmp_path, human=rows_of((20, 45)))], H, 0)
    assert looks(found.corrected) == [24, 32, 40]
    np.testing.assert_array_equal(found.corrected.sum(1)[[3, 4, 5]], [16, 13, 5])
    assert not (found.corrected & found.own).any()


@pytest.mark.parametrize("changed", [{"success_row": -1}, {"success_row": -1, "aborted": True}, {"success_row": 24}])
def test_what_did_not_help_is_no_correction(tmp_path, changed):
    assert not Marks.read([write(tmp_path, human=rows_of((20, 45)), **changed)], H, 0).corrected.any()


def test_what_was_driven_before_a_takeover_is_undesirable_up_to_it(tmp_path):
    found = Marks.read([write(tmp_path, human=rows_of((20, 30), (50, 55)))], H, 10)
    assert looks(found.leading) == [16, 40, 48]
    np.testing.assert_array_equal([found.leading[n].nonzero()[0].max() for n in (2, 5, 6)], [3, 9, 1])
    assert not found.leading[:, :1].all() and not (found.leading & ~found.own).any()


def test_a_takeover_after_the_task_was_done_says_nothing(tmp_path):
    assert not Marks.read([write(tmp_path, human=rows_of((30, 40)), success_row=20)], H, 16).leading.any()


def alarm(*places):
    return np.isin(np.arange(8), places)


def test_an_alarm_is_about_what_was_driven_before_it_and_what_was_proposed_then(tmp_path):
    vetoed = np.zeros((8, K), bool)
    vetoed[4, 0] = True
    file = write(tmp_path, alarm=alarm(4), vetoed=vetoed, success_row=-1)
    found = Marks.read([file], H, 8)
    assert looks(found.leading) == [24] and found.leading[3].sum() == 8
    np.testing.assert_array_equal(found.look, [4, 4])


def test_an_alarm_in_an_attempt_that_went_well_without_a_person_was_a_false_one(tmp_path):
    found = Marks.read([write(tmp_path, alarm=alarm(4))], H, 8)
    assert not found.leading.any() and not len(found.look)
    helped = Marks.read([write(tmp_path, alarm=alarm(2), human=rows_of((20, 30)))], H, 8)
    assert looks(helped.leading) == [8, 16] and list(helped.look) == [2]


def test_refused_candidates_are_relative_to_the_joints_of_their_look(tmp_path):
    vetoed = np.zeros((8, K), bool)
    vetoed[3, 1] = True
    files = [write(tmp_path), write(tmp_path, "two", vetoed=vetoed)]
    found = Marks.read(files, H, 0)
    assert list(found.look) == [11]
    np.testing.assert_allclose(found.plan[0, :, :7], 2 - 0.3, atol=1e-6)
    np.testing.assert_allclose(found.plan[0, :, 7], 2)


def test_candidates_that_were_not_made_are_not_refused(tmp_path):
    plans = np.full((8, K, H, 8), np.nan, np.float32)
    assert not len(Marks.read([write(tmp_path, candidates=plans, vetoed=np.ones((8, K), bool))], H, 0).look)


def test_marks_of_a_recording_of_the_live_stack(spec, tmp_path):
    pytest.importorskip("rclpy")
    import os

    from recordings import Attempt

    from vla_mbpo.paths import ros_environment
    from vla_mbpo.training.episodes import find

    os.environ.update(ros_environment())
    attempt = Attempt(spec, success=50)
    attempt.takeover(20.5, 36.5)
    attempt.decide(0, 1, "reach")
    attempt.record(tmp_path)
    found = Marks.read(list(find([tmp_path]).files), spec.horizon, 5)
    assert looks(found.corrected) == [24, 32] and looks(found.leading) == [16] and list(found.look) == [0]

"""What of attempts supervised finetuning learns from: those that went well, and of them what led there."""

import os

import numpy as np
import pytest
from made_up import noise_attempts
from recordings import CLOSED, OPEN, Attempt, set_point

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.paths import ros_environment
from vla_mbpo.training.demonstrations import AFTER_SUCCESS
from vla_mbpo.training.episodes import find
from vla_mbpo.training.examples import WAITING, chosen, followed, read

pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.policy.vocabulary import Vocabulary  # noqa: E402  (after the check that torch is there)
from vla_mbpo.sim.tasks import HELD_OUT_TASKS, TASKS, TRAIN_SEEDS  # noqa: E402
from vla_mbpo.training.dataset import Demonstrations  # noqa: E402
from vla_mbpo.training.sft import SftConfig, Trainer  # noqa: E402

WORDS = Vocabulary.of([task.instruction for task in TASKS.values()])


@pytest.fixture(scope="module", autouse=True)
def interfaces():
    """Where the recorder finds message definitions."""
    os.environ.update(ros_environment())


def moving(rows=64, success=50, **more):
    """Arrays of an attempt that goes well and never waits, as ``followed`` wants them."""
    path = np.linspace(0, 1, rows)[:, None] * np.ones(7)
    return {"success_row": success, "set_point": path, "opening": np.full(rows, 0.04),
            "at": np.arange(0, rows, 8), **more}  # fmt: skip


def rollout(folder, name="one", **more):
    """A rollout that goes well, with other values."""
    (made, *_) = (file for file in noise_attempts(folder / name, 2, 48, 16).glob("*_1.npz"))
    with np.load(made) as episode:
        np.savez(folder / f"{name}.npz", **{**episode, **more})
    return folder / f"{name}.npz"


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_recorded_attempt_is_what_was_commanded_from_where_the_arm_was(spec, tmp_path):
    Attempt(spec, success=40).record(tmp_path)
    demos = Demonstrations(chosen(find([tmp_path]).files), WORDS, 16)
    at, rows = np.arange(0, 49, 8), np.arange(1, 17)
    assert len(demos) == len(at) and demos.tasks == {"button": 1}
    wanted = set_point(spec, 0.05 * (at[:, None] + rows)) - set_point(spec, 0.05 * at)[:, None]
    valid = demos.arrays["valid"]
    np.testing.assert_allclose(demos.arrays["chunk"][..., :7][valid], wanted[valid], atol=1e-5)
    opening = np.where(0.05 * (at[:, None] + rows) < 1.0, OPEN, CLOSED)
    np.testing.assert_allclose(demos.arrays["chunk"][..., 7][valid], opening[valid], atol=1e-6)
    np.testing.assert_array_equal(valid, at[:, None] + rows <= 41 + AFTER_SUCCESS)


def test_only_attempts_that_went_well_are_examples(spec, tmp_path, capsys):
    for options in ({"success": 40}, {}, {"outcome": "aborted"}):
        Attempt(spec, **options).record(tmp_path)
    files = find([tmp_path]).files
    assert chosen(files) == [files[0]]
    assert "2 of 3 episodes are no examples: 1 failed, 1 aborted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [{"source": "clumsy"}, {"source": "random"}, {"disturbance": "nudge"}, {"hits": np.zeros((6, 2))}]
)
def test_what_was_disturbed_on_purpose_is_no_example(folder, more, capsys):
    assert chosen([rollout(folder), rollout(folder, "two", **more)]) == [folder / "one.npz"]
    assert "1 disturbed on purpose" in capsys.readouterr().out


@pytest.mark.parametrize("more", [{"seed": TRAIN_SEEDS.stop}, {"task": HELD_OUT_TASKS[0]},
                                  {"source": "live", "seed": TRAIN_SEEDS.stop}])  # fmt: skip
def test_nothing_is_learned_from_scenes_and_tasks_to_test_with(folder, more, capsys):
    assert chosen([rollout(folder), rollout(folder, "two", **more)]) == [folder / "one.npz"]
    assert "1 of scenes or tasks to test with" in capsys.readouterr().out


def test_all_of_an_attempt_in_which_nobody_intervened_is_an_example():
    rows, looks = followed(moving())
    assert len(rows) == 51 + AFTER_SUCCESS and rows.all()
    np.testing.assert_array_equal(looks, np.arange(0, 64, 8) < len(rows))


def test_what_came_before_a_takeover_is_not_followed_and_what_the_person_did_is():
    human = np.zeros(64, bool)
    human[20:30] = True
    rows, looks = followed(moving(human=human))
    np.testing.assert_array_equal(rows, np.arange(len(rows)) >= 20)
    assert looks.tolist() == [False] * 3 + [True] * 5


def test_what_came_between_two_takeovers_is_not_followed():
    human = np.zeros(64, bool)
    human[10:20] = human[30:40] = True
    rows, _ = followed(moving(human=human))
    assert rows[10:20].all() and not rows[20:30].any() and rows[30:].all() and not rows[:10].any()


def test_a_takeover_after_the_end_takes_nothing_away():
    human = np.zeros(80, bool)
    human[70:] = True
    assert followed(moving(80, human=human))[0].all()


def test_a_takeover_right_after_the_end_leaves_the_attempt_an_example():
    """Incident (review): of 159 clean rows 6 were left."""
    human = np.zeros(64, bool)
    human[52:] = True
    rows, _ = followed(moving(human=human))
    assert rows[:52].all() and not rows[52:].any()


def test_waiting_is_not_followed_before_the_end_and_staying_is_after_it():
    """The gripper that closes while the arm stands is no waiting."""
    attempt = moving(96, success=60)
    attempt["set_point"][10:40] = attempt["set_point"][10]
    rows, _ = followed(attempt)
    np.testing.assert_array_equal(np.flatnonzero(~rows), np.arange(10, 41 - WAITING))
    attempt["opening"][30:] = 0.0
    assert followed(attempt)[0][20:30].all()
    attempt["set_point"][60:] = attempt["set_point"][60]
    assert followed(attempt)[0][60:].all()


def test_no_look_is_taken_where_nothing_is_followed(folder):
    human = np.zeros(48, bool)
    human[17:20] = True
    episode = read(rollout(folder, human=human))
    assert episode["clean"][episode["at"]].all() and episode["at"][0] == 24
    assert len(episode["at"]) == len(episode["head"]) == len(episode["points"])


def test_attempts_and_demonstrations_are_counted_by_task(folder, demos):
    files = [rollout(folder), rollout(folder, "two"), *sorted(demos.glob("*.npz"))]
    assert chosen(files, 1) == [files[0], demos / "drawer_000000.npz"]


def test_what_is_no_episode_is_an_error_that_names_it(tmp_path):
    np.savez(tmp_path / "other.npz", numbers=1)
    with pytest.raises(ConfigError, match=r"other\.npz"):
        chosen([tmp_path / "other.npz"])


def test_pictures_of_another_size_are_an_error_that_names_the_file(folder):
    files = [rollout(folder), rollout(folder, "two", head=np.zeros((6, 8, 8, 3), np.uint8))]
    with pytest.raises(ConfigError, match=r"two\.npz.*16, 16"):
        Demonstrations(files, WORDS, 16)


def test_where_things_are_is_learned_only_from_those_who_know(spec, tmp_path, demos):
    """A recording does not know; beside demonstrations it changes nothing about what they teach of it."""
    Attempt(spec, success=40).record(tmp_path)
    alone = Trainer(SftConfig((str(tmp_path),), samples=2, batch=2, threads=1), tmp_path / "alone")
    terms = alone._loss(np.array([0, 1]))
    assert terms["auxiliary"].item() == 0.0 and terms["flow"].item() > 0
    terms["flow"].backward()
    mixed = Trainer(SftConfig((str(tmp_path), str(demos)), samples=2, batch=2, threads=1), tmp_path / "mixed")
    only = Trainer(SftConfig((str(demos),), samples=2, batch=2, threads=1), tmp_path / "only")
    placed = mixed.demos.placed
    assert 0 < placed.sum() < len(placed)
    np.testing.assert_array_equal(mixed.demos.targets()[placed], only.demos.targets())
    for one, other in zip(mixed.demos.survey(), only.demos.survey(), strict=True):
        np.testing.assert_array_equal(one[placed], other)
        assert np.isfinite(one).all()
    assert not mixed.demos.survey()[1][~placed].any()


def test_the_command_takes_folders_of_any_kind(spec, tmp_path, demos, capsys):
    Attempt(spec, success=40).record(tmp_path / "recorded")
    (tmp_path / "rollouts").mkdir()
    noise_attempts(tmp_path / "rollouts", 2, 48, 16)
    folders = [str(tmp_path / "recorded"), str(tmp_path / "rollouts"), str(demos)]
    said = ["--out", str(tmp_path / "run"), "--samples", "2", "--batch", "2", "--threads", "1"]
    assert main(["train", "sft", "--data", *folders, *said]) == 0
    assert "1 of 5 episodes are no examples: 1 failed" in capsys.readouterr().out
    assert (tmp_path / "run/state.json").is_file()


@pytest.mark.parametrize("more", [{"success_row": -1}, {"source": "random"}, {"disturbance": "nudge"}, {}])
def test_of_what_is_watched_every_look_says_where_things_are_and_no_row_is_followed(folder, more):
    file = rollout(folder, "two", **more)
    plain, both = (Demonstrations([rollout(folder)], WORDS, 16, watched=some) for some in ((), (file,)))
    added = len(both) - len(plain)
    with np.load(file) as episode:
        assert added == len(episode["at"])
    assert both.placed.all() and both.tasks == plain.tasks
    assert not both.arrays["valid"][-added:].any() and both.arrays["valid"][:-added].any()
    for mine, other in zip(vars(both.normalisation()).values(), vars(plain.normalisation()).values(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("more", [{"seed": TRAIN_SEEDS.stop}, {"task": HELD_OUT_TASKS[0]}])
def test_scenes_and_tasks_to_test_with_are_not_watched(folder, more, capsys):
    assert chosen([rollout(folder, "two", **more)], watched=True) == []
    assert "1 of scenes or tasks to test with" in capsys.readouterr().out


def test_attempts_in_which_nobody_knew_where_things_were_are_not_watched(folder, capsys):
    file = rollout(folder)
    with np.load(file) as episode:
        nowhere = np.full_like(episode["points"], np.nan)
    assert chosen([rollout(folder, "two", points=nowhere)], watched=True) == []
    assert "nobody knew where things were" in capsys.readouterr().out

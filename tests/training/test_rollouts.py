"""Rollouts: what a tape holds, and what the world model is told of it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from vla_mbpo.core.errors import ConfigError  # noqa: E402  (after the check that torch is there)
from vla_mbpo.policy.bundle import write_manifest  # noqa: E402
from vla_mbpo.policy.vocabulary import Vocabulary  # noqa: E402
from vla_mbpo.sim.tasks import TASKS  # noqa: E402
from vla_mbpo.sim.world import TABLETOP  # noqa: E402
from vla_mbpo.training import rollouts  # noqa: E402
from vla_mbpo.training.demonstrations import RECIPE  # noqa: E402
from vla_mbpo.training.rollout_data import AMBIGUOUS, HALF_TIME, Rollouts  # noqa: E402
from vla_mbpo.training.rollouts import POLICIES, SOURCES, Branching, TapedAttempt, generate, roll  # noqa: E402
from vla_mbpo.training.tape import LOOK_ROWS  # noqa: E402

WORDS = Vocabulary.of([task.instruction for task in TASKS.values()])


@pytest.fixture(scope="module")
def expert(spec):
    return roll(spec, "expert", "button", 1)


def test_an_attempt_is_taped_row_by_row_and_looked_at_every_eight(spec, expert):
    rows = len(expert["set_point"])
    np.testing.assert_array_equal(expert["at"], np.arange(0, rows, LOOK_ROWS))
    assert expert["head"].shape == expert["wrist"].shape == (len(expert["at"]), 96, 96, 3)
    for name in ("opening", "cost"):
        assert len(expert[name]) == rows
    assert expert["cost"].sum() == len(expert["events"])
    assert 0 <= expert["success_row"] < rows and rows - expert["success_row"] == rollouts.AFTER


def test_the_arm_goes_where_the_rows_say(expert):
    """Else actions and pictures would not belong together."""
    after = expert["set_point"][expert["at"][1:] - 1]
    assert np.abs(expert["joints"][1:] - after).max() < 0.1  # the servos' lag


def test_a_policys_rows_are_those_the_driver_commanded_at_each_due_time(spec, tiny_bundle, monkeypatch):
    """Incident: driver ticks and row periods do not share a grid, and half of the rows were not taped."""
    from vla_mbpo.eval.lockstep import Settings
    from vla_mbpo.policy.runtime import PolicySession

    session = PolicySession.load(tiny_bundle)
    attempt = TapedAttempt(spec, session, "button", 1, Settings(timeout=1.0, gate=False))
    attempt.drive()
    tape = attempt.tape.arrays()
    assert len(tape["set_point"]) == 20 and list(tape["at"]) == [0, 8, 16]
    assert tape["candidates"].shape == (3, 8, 16, 8) and tape["features"].shape[0] == 3


def test_a_policy_looks_as_often_as_the_world_says_and_random_motion_does_not(spec, tiny_bundle):
    often = replace(TABLETOP, replan_rows=4)
    driven = roll(spec, str(tiny_bundle), "button", 1, timeout=1.0, world=often)
    moved = roll(spec, "random", "button", 1, timeout=1.0, world=often)
    assert list(driven["at"]) == [0, 4, 8, 12, 16] and list(moved["at"]) == [0, 8]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two short attempts of two sources on two tasks, by the one command."""
    folder = tmp_path_factory.mktemp("rollouts")
    summary = generate(folder, ("button", "drawer"), {"expert": 1, "random": 1}, 5, workers=2)
    return folder, summary


def test_generation_names_source_task_and_seed_and_never_shares_a_seed(made):
    folder, summary = made
    names = sorted(f.stem for f in folder.glob("*.npz"))
    assert {name.rsplit("_", 1)[1] for name in names} == {"0000005", "0000006", "0000007", "0000008"}
    assert {name.rsplit("_", 1)[0] for name in names} == {
        "expert_button", "expert_drawer", "random_button", "random_drawer"}  # fmt: skip
    assert summary["expert"]["n"] == 2 and summary["expert"]["successes"] == 1.0


def test_what_is_there_is_kept(made):
    folder, _ = made
    before = {f: f.stat().st_mtime_ns for f in folder.glob("*.npz")}
    generate(folder, ("button", "drawer"), {"expert": 1, "random": 1}, 5, workers=1)
    assert {f: f.stat().st_mtime_ns for f in folder.glob("*.npz")} == before


BUTTON = {"tasks": ("button",), "episodes": {"expert": 1}, "seed": 5}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder with the one rollout of BUTTON, written in an instant; whatever else is asked for is written too."""
    monkeypatch.setattr(rollouts, "spread", lambda _, work, jobs, *more: [(job.file, b"") for job in jobs])
    monkeypatch.setattr(rollouts, "_ended", lambda job: {"source": job.source, "success": True, "events": 0})
    generate(tmp_path, **BUTTON)
    return tmp_path


@pytest.mark.parametrize(
    "odd",
    [
        {"timeout": 5.0},
        {"disturbed": 0.5},
        {"world_model": "world_model"},
        {"world": replace(TABLETOP, name="elsewhere")},
        {"episodes": {"expert": 2}},
        {"episodes": {"expert": 1, "random": 1}},
        {"tasks": ("button", "drawer")},
        {"seed": 6},
    ],
    ids=lambda odd: "-".join(odd),
)
def test_a_folder_holds_rollouts_of_one_recipe(kept, odd, request):
    """Incident: `train rollouts` kept what another recipe had made, and its summary told of both as of one run."""
    if "world_model" in odd:
        odd = {"world_model": str(request.getfixturevalue("tiny_world_model"))}
    (name,), before = odd, sorted(kept.iterdir())
    with pytest.raises(ConfigError, match=rf"recipe\.{name}: .* is not valid; .* holds rollouts made with .*another f"):
        generate(kept, **BUTTON | odd)
    assert sorted(kept.iterdir()) == before


def test_a_bundle_that_was_exported_anew_does_not_go_on_with_the_rollouts_of_the_one_before(
    kept, tiny_bundle, tmp_path
):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "policy")
    one = BUTTON | {"episodes": {str(bundle): 1}}
    generate(tmp_path / "log", **one)
    manifest = json.loads((bundle / "manifest.json").read_text())
    write_manifest(bundle, {k: v for k, v in manifest.items() if k != "files"} | {"name": "anew"})
    with pytest.raises(ConfigError, match=r"recipe\.policies: .*anew@"):
        generate(tmp_path / "log", **one)


def test_rollouts_from_before_recipes_were_kept_are_gone_on_with(kept):
    (kept / RECIPE).unlink()
    generate(kept, **BUTTON)
    assert json.loads((kept / RECIPE).read_text())["episodes"] == {"expert": 1}


def test_the_recipe_of_branches_is_plain_json_and_fits_itself(kept, tiny_bundle, tmp_path):
    def fails(number):
        pytest.fail(f"{number} is no JSON")

    for _ in range(2):
        generate(tmp_path / "log", ("button",), {str(tiny_bundle): 1}, 5, branching=Branching(0.02))
    said = json.loads((tmp_path / "log" / RECIPE).read_text(), parse_constant=fails)
    assert said["branching"]["wander"] == 0.02
    with pytest.raises(ConfigError, match=r"recipe\.branching"):
        generate(tmp_path / "log", ("button",), {str(tiny_bundle): 1}, 5, branching=Branching())


def test_an_unknown_source_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="sources.*genius"):
        generate(tmp_path, ("button",), {"genius": 1}, 0)
    assert set(POLICIES) < set(SOURCES)


def load(folder, spec, **episodes):
    files = []
    for name, episode in episodes.items():
        np.savez(folder / f"{name}.npz", **({"source": "test", "policy": "", "task": "button", "seed": 0} | episode))
        files.append(folder / f"{name}.npz")
    return Rollouts(files, spec, WORDS)


def episode(spec, rows=64, success=-1, cost=()):
    at = np.arange(0, rows, LOOK_ROWS, dtype=np.int32)
    m = len(at)
    hits = np.zeros(rows, np.uint8)
    hits[list(cost)] = 1
    return {
        "at": at, "head": np.zeros((m, 8, 8, 3), np.uint8), "wrist": np.zeros((m, 8, 8, 3), np.uint8),
        "joints": np.tile(spec.home, (m, 1)).astype(np.float32), "velocities": np.zeros((m, 7), np.float32),
        "gripper": np.full(m, 0.04, np.float32), "points": np.zeros((m, 9), np.float32),
        "set_point": np.tile(spec.home, (rows, 1)).astype(np.float32), "opening": np.full(rows, 0.04, np.float32),
        "cost": hits, "success_row": success,
    }  # fmt: skip


def test_each_step_ends_at_the_look_a_chunk_later(spec, tmp_path):
    data = load(tmp_path, spec, one=episode(spec), two=episode(spec))
    np.testing.assert_array_equal(data.follower[:4], [[2, 4], [3, 5], [4, 6], [5, 7]])
    np.testing.assert_array_equal(data.follower[8], [10, 12])  # in its own episode
    np.testing.assert_array_equal(data.seen[4:8], [[1, 0], [1, 0], [0, 0], [0, 0]])


def test_outcomes_of_a_success(spec, tmp_path):
    data = load(tmp_path, spec, one=episode(spec, success=40))
    ends = data.at[:, None] + np.array([16, 32])
    np.testing.assert_array_equal(data.outcome[..., 0], ends > 40)
    np.testing.assert_allclose(data.outcome[..., 1], 0.5 ** (np.maximum(40 - ends, 0) / HALF_TIME))
    assert (data.outcome[..., 2] == 1).all()


def test_only_the_experts_attempts_say_how_long_an_expert_takes(spec, tmp_path):
    expert, other = episode(spec, success=40) | {"source": "expert"}, episode(spec, success=40)
    data = load(tmp_path, spec, one=expert, two=other)
    assert data.labelled[:7, :, 3].all() and not data.labelled[8:, :, 3].any()


def test_outcomes_of_a_failure_are_all_zero(spec, tmp_path):
    data = load(tmp_path, spec, one=episode(spec))
    assert not data.outcome.any() and data.labelled[:7, :, :3].all()


def test_a_chunk_that_the_attempt_did_not_live_to_end_is_no_label(spec, tmp_path):
    """Only attempts that fail end before their chunks do: how such a chunk goes on would give their end away."""
    data = load(tmp_path, spec, one=episode(spec))  # 64 rows, the last look at row 56
    assert not data.labelled[7].any() and data.whole[6, 0] and not data.whole[7, 0]


def test_what_a_step_cost_is_known_even_if_it_ended_the_attempt(spec, tmp_path):
    """Incident: cubes that fell off the table ended the attempt, and no chunk was blamed for it."""
    data = load(tmp_path, spec, one=episode(spec, cost=(63,)))
    assert data.costed[7, 0] and data.cost[7, 0] and not data.costed[7, 1]


def test_pictures_just_before_success_say_neither_done_nor_not(spec, tmp_path):
    data = load(tmp_path, spec, one=episode(spec, success=40))
    ends = data.at[:, None] + np.array([16, 32])
    np.testing.assert_array_equal(~data.labelled[:7, :, 0], ((ends <= 40) & (ends > 40 - AMBIGUOUS))[:7])
    assert (~data.labelled[..., 0]).any()


def test_a_cost_counts_in_the_step_in_which_it_begins(spec, tmp_path):
    data = load(tmp_path, spec, one=episode(spec, cost=(20,)))
    np.testing.assert_array_equal(data.cost[:4], [[0, 1], [1, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(data.costed[:, 1], data.at + 32 <= 64)


def test_no_rollouts_is_an_error_that_says_what_to_do(spec):
    with pytest.raises(ConfigError, match="vla-mbpo train rollouts"):
        Rollouts([], spec, WORDS)


def test_disturbed_rollouts_say_what_went_wrong_and_when(tmp_path, spec, tiny_bundle, monkeypatch):
    from vla_mbpo.eval.lockstep import Settings

    monkeypatch.setitem(POLICIES, "few", (str(tiny_bundle), Settings(timeout=4.0, gate=False, k=2)))
    monkeypatch.setattr(rollouts, "IMAGE", 32)
    taped = [roll(spec, "few", "red_bin", seed, disturbed=0.5) for seed in range(6)]
    kinds = [str(tape["disturbance"]) for tape in taped]
    assert "" in kinds and len(set(kinds)) > 1
    for tape, kind in zip(taped, kinds, strict=True):
        assert (tape["disturbed_at"] >= 0) == (kind not in ("", "slipped_grasp"))
    assert "disturbance" not in roll(spec, "few", "red_bin", 0)


def test_branches_share_the_scene_and_are_not_disturbed(tmp_path):
    with pytest.raises(ConfigError, match="disturbed"):
        generate(tmp_path, ("button",), {"few": 1}, 5, branching=Branching(), disturbed=0.5)

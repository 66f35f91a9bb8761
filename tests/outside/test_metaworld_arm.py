"""Meta-World behind the interface of the simulated robot. Needs `make metaworld-setup`; skipped elsewhere."""

import contextlib
import os

import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "egl")
pytest.importorskip("metaworld", reason="needs Meta-World: `make metaworld-test`")

from benchmarks.metaworld import data  # noqa: E402
from benchmarks.metaworld.frames import HORIZON, STEP_NS  # noqa: E402
from benchmarks.metaworld.tasks import ROBOT  # noqa: E402
from benchmarks.metaworld.world import ONE_CAMERA, TWO_CAMERAS  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.core.robot import RobotSpec  # noqa: E402
from vla_mbpo.core.state import Trajectory  # noqa: E402
from vla_mbpo.eval.lockstep import Attempt, Settings, attempt_expert  # noqa: E402
from vla_mbpo.paths import robot_dir  # noqa: E402
from vla_mbpo.policy.runtime import Candidates  # noqa: E402
from vla_mbpo.training.demonstrations import Recipe, demonstrate  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Constant")
SPEC = RobotSpec.load(robot_dir(ROBOT))
RECIPE = Recipe(ROBOT, image_size=32, burst_probability=0.0, max_rows=125)


def push(arm, rows: int = 4):
    for _ in range(rows):
        target = arm.tool_set_point() + np.array([0.02, 0.01, -0.01])
        assert arm.accept(Trajectory(0, SPEC.joints, (SPEC.row_period,), target[None], np.zeros((0, 3)))) is None
        arm.command_gripper(0.0)
        arm.advance(arm.time + SPEC.row_period)
    return arm


def test_a_scene_follows_from_task_and_seed_alone():
    np.random.seed(1)
    one = push(TWO_CAMERAS.robot(SPEC, "push", 5)).seen
    np.random.seed(2)
    other, another = (push(TWO_CAMERAS.robot(SPEC, "push", seed)).seen for seed in (5, 6))
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - another).max() > 1e-3


@pytest.mark.parametrize("task", ["drawer-open", "lever-pull", "coffee-pull", "soccer", "dial-turn"])
def test_the_first_look_shows_the_scene_that_it_is(task):
    """What a reset of Meta-World moves was seen where the reset before had put it, until the first step: by 17 cm."""
    arm = TWO_CAMERAS.robot(SPEC, task, 3)
    first, marks, seen = arm.data.xpos.copy(), arm.data.site_xpos.copy(), arm.seen.copy()
    arm.step(np.zeros(4))
    np.testing.assert_allclose(arm.data.xpos, first, atol=0.01)
    np.testing.assert_allclose(arm.data.site_xpos, marks, atol=0.01)
    np.testing.assert_allclose(arm.seen[4:18], seen[4:18], atol=0.01)
    np.testing.assert_array_equal(seen[18:36], seen[:18])


def test_where_a_reset_had_left_things_changes_nothing_of_what_comes():
    arm = TWO_CAMERAS.robot(SPEC, "lever-pull", 3)
    env = type(arm._env)()
    env.seeded_rand_vec, env._freeze_rand_vec = True, False
    env._partially_observable, env._set_task_called = False, True
    env.__dict__.pop("sawyer_observation_space", None)
    env.seed(3)
    env.reset()
    for _ in range(20):
        theirs = env.step(np.float32([0.5, 1.0, -0.5, 0.0]))[0]
        arm.step(np.array([0.5, 1.0, -0.5, 0.0]))
    np.testing.assert_array_equal(arm.seen, theirs)


def test_a_row_is_four_steps_towards_its_set_point():
    arm = TWO_CAMERAS.robot(SPEC, "reach", 0)
    before = arm.tool_set_point()
    push(arm, rows=1)
    assert arm.steps == 4 and arm.time == 4 * STEP_NS == SPEC.row_period
    np.testing.assert_allclose(arm.tool_set_point() - before, [0.02, 0.01, -0.01], atol=1e-6)


def test_of_an_observation_the_policy_gets_four_numbers_and_of_itself_where_it_pulls_the_tool_to():
    arm = push(TWO_CAMERAS.robot(SPEC, "reach", 0))
    state = arm.state()
    np.testing.assert_array_equal([*state.positions, state.gripper], arm.seen[:4])
    np.testing.assert_allclose(state.positions + 0.05 * state.velocities, arm.tool_set_point())
    assert np.linalg.norm(state.velocities) > 0.1


def test_what_is_supposed_has_not_happened():
    """Else experts would drive twice as fast as time goes."""
    plain, tried = (push(TWO_CAMERAS.robot(SPEC, "door-lock", 2)) for _ in "ab")
    with tried.supposed():
        for _ in range(8):
            tried.step(np.array([1.0, -1.0, 0.5, 1.0]))
    assert tried.steps == plain.steps
    np.testing.assert_array_equal(push(tried).seen, push(plain).seen)


def test_a_branch_goes_on_from_the_same_state_and_is_not_noticed():
    arm = push(TWO_CAMERAS.robot(SPEC, "push", 4))
    branch = arm.branch()
    seen = arm.seen.copy()
    there = push(branch).seen
    np.testing.assert_array_equal(arm.seen, seen)
    np.testing.assert_allclose(push(arm).seen, there, atol=1e-9)


def test_the_horizon_is_metaworlds():
    arm = TWO_CAMERAS.robot(SPEC, "reach", 0)
    arm.advance(10 * HORIZON * STEP_NS)
    assert arm.steps == HORIZON


def test_another_task_is_named():
    with pytest.raises(ConfigError, match="task: 'juggle'"):
        TWO_CAMERAS.robot(SPEC, "juggle", 0)


def test_both_views_show_something_and_one_camera_has_one():
    arm = push(TWO_CAMERAS.robot(SPEC, "hammer", 0))
    shown = {}
    for name, world in (("two", TWO_CAMERAS), ("one", ONE_CAMERA)):
        camera = world.camera(arm, 48)
        shown[name] = camera.render(arm.qpos, "head", "wrist")
        camera.close()
    assert all(view.shape == (48, 48, 3) and view.std() > 10 for view in shown["two"])
    assert not shown["one"][1].any()
    np.testing.assert_array_equal(shown["one"][0], shown["two"][0])


def test_the_first_picture_is_of_the_same_camera_as_all_others():
    """Incident: the camera was moved in the model only, and the first picture was still of its old place."""
    arm = TWO_CAMERAS.robot(SPEC, "reach", 0)
    camera = TWO_CAMERAS.camera(arm, 48)
    first = camera.render(None, "head")[0].astype(float)
    arm.advance(STEP_NS)
    later = camera.render(None, "head")[0]
    camera.close()
    assert np.abs(first - later).mean() < 3.0


@pytest.mark.parametrize("task", ["door-lock", "coffee-pull", "hammer"])
def test_experts_succeed_with_one_action_for_each_row(task):
    outcome = attempt_expert(SPEC, task, 0, 6.25, TWO_CAMERAS)
    assert outcome.success and outcome.seconds < 3.0


class Replay:
    """A policy that says what a demonstration did."""

    image_size = 32

    def __init__(self, demo):
        self.rows = np.concatenate([demo["target"], demo["gripper_target"][:, None]], 1).astype(float)

    def infer(self, observation, *_):
        at = observation.stamp // SPEC.row_period + np.arange(SPEC.horizon)
        rows = self.rows[np.minimum(at, len(self.rows) - 1)]
        return Candidates(rows[None, :, :3], rows[None, :, 3], np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("task", "seed"), [("door-lock", 1), ("pick-place", 1), ("door-lock", 2), ("handle-pull", 1), ("soccer", 2)]
)
def test_a_demonstration_succeeds_again_by_way_of_gate_and_driver(task, seed):
    """Incident: of the last three none did, since the driver smoothed the rows as it does for an arm's joints."""
    demo = demonstrate(SPEC, task, seed, RECIPE, world=TWO_CAMERAS)
    assert demo is not None and demo["things"].shape == (len(demo["at"]), 6)
    outcome = Attempt(SPEC, Replay(demo), task, seed, Settings(k=1, timeout=6.25), world=TWO_CAMERAS).run()
    assert outcome.success and outcome.vetoes == outcome.stops == 0


def test_demonstrations_that_are_all_there_are_not_tried_again(tmp_path, monkeypatch):
    """Scenes in which the expert had failed, 500 steps each, were tried anew whenever a protocol went on."""
    tried: list[tuple[str, ...]] = []
    monkeypatch.setattr(data, "generate", lambda out, tasks, *rest: tried.append(tasks))
    np.savez(tmp_path / "reach_000003.npz", at=np.arange(3))
    assert data.demonstrate(tmp_path, ("reach",), 1) == {"reach": 1} and not tried
    data.demonstrate(tmp_path, ("reach", "push"), 1)
    assert set(tried) == {("push",)}


def test_an_interruption_changes_no_scene(tmp_path, monkeypatch):
    """Incident: what was left was counted from the first scene on, which was there, and so made of further ones."""
    stops: list[int] = []

    def generate(out, tasks, count, recipe, *_):
        for seed in range(recipe.seed, recipe.seed + count):
            file = out / f"reach_{seed:06}.npz"
            if seed % 3 and not file.exists():  # the expert fails in every third scene
                if stops and seed >= stops[0]:
                    raise KeyboardInterrupt
                np.savez(file, at=np.arange(3))

    monkeypatch.setattr(data, "generate", generate)
    (straight := tmp_path / "straight").mkdir()
    (broken := tmp_path / "broken").mkdir()
    data.demonstrate(straight, ("reach",), 10)
    for stop in (4, 11, 21):
        stops[:] = [stop]
        with contextlib.suppress(KeyboardInterrupt):
            data.demonstrate(broken, ("reach",), 10)
    stops.clear()
    data.demonstrate(broken, ("reach",), 10)
    made = [sorted(file.name for file in folder.iterdir()) for folder in (straight, broken)]
    assert made[0] == made[1] and len(made[0]) == 10

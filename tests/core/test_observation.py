"""Nothing stale, future, torn or frozen becomes an observation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.observation import FreshnessLimits, Observation, PixelCheck, StaleInput

LIMITS = FreshnessLimits()
NOW = 1_000_000_000_000
IMAGE = np.arange(0, 240, 5, dtype=np.uint8).reshape(4, 4, 3)
INPUTS = ("head", "wrist", "joint_states")


def build(ages=(0, 0, 0), joints=None, gripper=0.04) -> Observation:
    head, wrist, state = (NOW - age for age in ages)
    joints = np.zeros(7) if joints is None else joints
    return Observation.fresh(NOW, (head, IMAGE), (wrist, IMAGE), (state, joints, np.zeros(7), gripper))


@given(st.integers(0, LIMITS.max_age), st.integers(-LIMITS.max_skew, LIMITS.max_skew))
def test_inputs_inside_the_limits_make_an_observation_with_the_stamp_of_the_head_image(age, skew):
    other = min(max(age + skew, -LIMITS.max_future), LIMITS.max_age)
    assert build((age, other, age)).stamp == NOW - age


@given(st.integers(0, 2), st.integers(1, 10**12))
def test_an_old_input_is_refused(index, beyond):
    ages = [LIMITS.max_age + beyond if k == index else LIMITS.max_age for k in range(3)]
    with pytest.raises(StaleInput) as error:
        build(ages)
    assert error.value.reason.check in ("observation_age", "observation_skew")


@given(st.integers(0, 2), st.integers(1, 10**12))
def test_an_input_from_the_future_is_refused(index, beyond):
    ages = [-LIMITS.max_future - beyond if k == index else -LIMITS.max_future for k in range(3)]
    with pytest.raises(StaleInput) as error:
        build(ages)
    assert error.value.reason.subject in INPUTS


@given(st.integers(1, 2), st.integers(1, 100_000_000))
def test_inputs_of_different_times_are_refused(index, beyond):
    ages = [0, 0, 0]
    ages[index] = LIMITS.max_skew + beyond
    with pytest.raises(StaleInput) as error:
        build(ages)
    assert error.value.reason.subject == INPUTS[index]


@given(st.integers(0, 6), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_joint_that_is_no_number_is_refused(joint, bad):
    joints = np.zeros(7)
    joints[joint] = bad
    with pytest.raises(StaleInput, match="observation_finite"):
        build(joints=joints)


def test_a_gripper_that_is_no_number_is_refused():
    with pytest.raises(StaleInput, match="observation_finite"):
        build(gripper=float("nan"))


def test_pixels_that_stay_the_same_while_stamps_advance_are_refused():
    frozen = PixelCheck("head")
    for stamp in range(0, LIMITS.max_frozen + 1, 50_000_000):
        frozen.check(stamp, IMAGE)
    with pytest.raises(StaleInput, match="observation_frozen: head"):
        frozen.check(LIMITS.max_frozen + 50_000_000, IMAGE)


def test_one_changed_pixel_is_life():
    frozen = PixelCheck("head")
    for k in range(100):
        image = IMAGE.copy()
        image[0, 0, 0] = k % 2
        frozen.check(k * LIMITS.max_frozen, image)


def test_a_picture_without_contrast_is_refused():
    dark = np.random.default_rng(0).integers(0, 4, (96, 96, 3)).astype(np.uint8)
    with pytest.raises(StaleInput, match="observation_contrast: wrist"):
        PixelCheck("wrist").check(0, dark)

"""Sticks and buttons mean what docs say, and nothing wrong gets through."""

import numpy as np
import pytest

from vla_mbpo.teleop.mapping import BUTTONS, SHARES, Mapping, Speeds


def read(mapping, axes=(), *buttons):
    """A reading with these {axis: value} and buttons held."""
    values = [dict(axes).get(i, 0.0) for i in range(6)]
    return mapping.read(values, [int(i in {BUTTONS[b] for b in buttons}) for i in range(15)])


@pytest.fixture
def mapping(spec):
    made = Mapping(spec)
    read(made)
    return made


@pytest.mark.parametrize(
    ("axis", "entry"), [(0, 1), (1, 0), (3, 2), (2, 5)], ids=["left", "forward", "up", "counter-clockwise"]
)
def test_left_and_up_are_positive_tool_motion(mapping, axis, entry):
    twist = read(mapping, {axis: 1.0}).jog.twist
    full = (Speeds().linear if entry < 3 else Speeds().angular) * SHARES[mapping.share]
    assert twist[entry] == pytest.approx(full) and np.count_nonzero(twist) == 1


def test_the_shoulder_turns_the_left_stick_into_roll_and_pitch(mapping):
    twist = read(mapping, {0: 1.0, 1: 1.0}, "turn").jog.twist
    assert twist[3] < 0 < twist[4] and not twist[:3].any()


def test_a_joint_is_chosen_and_turned(mapping, spec):
    read(mapping, {}, "kind")
    read(mapping)
    read(mapping, {}, "previous_joint")
    jog = read(mapping, {1: -1.0}).jog
    assert np.flatnonzero(jog.joint_velocities).tolist() == [len(spec.joints) - 1]
    assert jog.joint_velocities[-1] == pytest.approx(-Speeds().joint * SHARES[mapping.share])


def test_buttons_choose_once_per_press(mapping):
    for _ in range(3):
        read(mapping, {}, "faster", "frame")
    assert mapping.share == 3 and mapping.in_tool_frame
    for _ in range(9):
        read(mapping, {}, "slower")
        read(mapping)
    assert mapping.share == 0


def test_engage_is_told_once_per_press(mapping):
    assert [read(mapping, {}, "engage").engage for _ in range(3)] == [True, False, False]


def test_triggers_open_and_close(mapping):
    assert read(mapping, {4: -1.0}).jog.gripper_velocity > 0 > read(mapping, {5: -1.0}).jog.gripper_velocity
    assert read(mapping, {5: 1.0}).jog.gripper_velocity == 0  # pads whose triggers rest at 1


def test_a_deadman_that_is_held_when_the_gamepad_appears_does_not_count(spec):
    mapping = Mapping(spec)
    assert not read(mapping, {}, "deadman").deadman
    read(mapping)
    assert read(mapping, {}, "deadman").deadman
    mapping.forget()
    held = read(mapping, {}, "deadman", "engage", "frame")
    assert not held.deadman and not held.engage and not mapping.in_tool_frame


@pytest.mark.parametrize(
    ("axes", "buttons"), [([0.0] * 5, 15), ([0.0] * 6, 14), ([float("nan")] * 6, 15), ([2.0] + [0.0] * 5, 15)]
)
def test_what_no_gamepad_says_is_refused(mapping, axes, buttons):
    with pytest.raises(ValueError, match="expected"):
        mapping.read(axes, [0] * buttons)

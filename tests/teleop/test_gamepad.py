import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_pad import NAME

from vla_mbpo.teleop.gamepad import AXES, BUTTONS, Gamepad, axis_value

RAW, DEADZONES = st.integers(-32768, 32767), st.floats(0.0, 0.9)


@pytest.fixture
def gamepad(pad):
    made = Gamepad(0.1)
    made.open()
    yield made
    made.close()


def test_a_pad_at_rest(gamepad):
    assert gamepad.poll() == ((0.0,) * AXES, (0,) * BUTTONS)
    assert gamepad.name == NAME


@pytest.mark.parametrize("button", range(15))  # SDL's own layout; what follows differs from pad to pad
def test_every_button_has_its_place(gamepad, pad, button):
    gamepad.poll()
    pad.press(button)
    assert [i for i, pressed in enumerate(gamepad.poll().buttons) if pressed] == [button]
    pad.release(button)
    assert not any(gamepad.poll().buttons)


@pytest.mark.parametrize(
    ("axis", "moved", "value"),
    [(0, -1, 1.0), (0, 1, -1.0), (1, -1, 1.0), (1, 1, -1.0), (2, -1, 1.0), (3, -1, 1.0), (4, 1, -1.0), (5, 1, -1.0)],
)
def test_left_and_forward_are_positive_and_triggers_go_to_minus_one(gamepad, pad, axis, moved, value):
    gamepad.poll()
    pad.axis(axis, moved)
    expected = [0.0] * AXES
    expected[axis] = value
    assert list(gamepad.poll().axes) == expected


def test_half_a_trigger(gamepad, pad):
    gamepad.poll()
    pad.axis(5, 0.55)
    assert gamepad.poll().axes[5] == pytest.approx(-0.5, abs=1e-3)  # 0.55 less the dead zone, of the 0.9 that are left


@given(RAW, DEADZONES)
def test_the_deadzone_is_zero_and_the_rest_reaches_the_ends(raw, deadzone):
    value = axis_value(raw, deadzone)
    assert (value == 0.0) == (abs(max(raw, -32767)) / 32767 <= deadzone)
    assert value * raw <= 0.0 and abs(value) <= 1.0
    assert (abs(value) == 1.0) == (abs(raw) >= 32767)


@given(RAW, RAW, DEADZONES)
def test_further_from_the_middle_is_never_less(first, second, deadzone):
    low, high = sorted((first, second))
    assert axis_value(low, deadzone) >= axis_value(high, deadzone)


def test_a_tap_between_two_polls_is_not_lost(gamepad, pad):
    gamepad.poll()
    pad.tap(3)
    assert [gamepad.poll().buttons[3] for _ in range(3)] == [1, 0, 0]


def test_without_a_pad_there_is_no_state(gamepad, pad):
    pad.unplug()
    assert gamepad.poll() is None
    assert gamepad.name == ""


def test_a_pad_that_goes_and_comes_starts_at_rest(gamepad, pad):
    gamepad.poll()
    pad.press(0)
    pad.axis(1, -1)
    assert gamepad.poll().buttons[0] == 1
    pad.unplug()
    assert gamepad.poll() is None
    assert gamepad.poll() is None
    pad.plug()
    assert gamepad.poll() == ((0.0,) * AXES, (0,) * BUTTONS)
    pad.press(1)
    assert gamepad.poll().buttons[:2] == (0, 1)


def test_a_pad_swapped_between_two_polls_leaves_a_gap(gamepad, pad):
    gamepad.poll()
    pad.press(0)
    gamepad.poll()
    pad.unplug()
    pad.plug()
    assert gamepad.poll() is None
    assert gamepad.poll().buttons[0] == 0


def test_it_can_be_opened_again(gamepad, pad):
    gamepad.poll()
    gamepad.close()
    gamepad.open()
    pad.press(2)
    gamepad.poll()
    assert gamepad.poll().buttons[2] == 1


SIGNALS = """
from vla_mbpo.teleop.gamepad import Gamepad
caught = lambda: [line for line in open("/proc/self/status") if line.startswith("SigCgt")]
before, pad = caught(), Gamepad(0.1)
pad.open()
pad.poll()
print(before == caught())
"""


def test_signals_stay_with_the_process_and_nothing_is_printed():
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SDL_", "PYGAME_"))}
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, env=variables, timeout=30)
    assert (done.stdout, done.stderr) == ("True\n", "")

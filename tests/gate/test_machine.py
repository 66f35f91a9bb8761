"""Modes, epochs and the latch."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vla_mbpo.gate.machine import COOL_DOWN, Mode, StateMachine

LONG = 10 * COOL_DOWN


def latched(now: int = 0, cause: str = "button") -> StateMachine:
    machine = StateMachine(now)
    machine.estop(cause, now)
    return machine


class Modes(RuleBasedStateMachine):
    """Any order of requests: the latch opens only by a reset, and each change of mode is a new epoch."""

    def __init__(self):
        super().__init__()
        self.machine, self.now = StateMachine(0), 0
        self.seen = (self.machine.mode, self.machine.epoch)
        self.was_reset = False
        self.last_estop = 0

    @rule(ns=st.integers(0, 2 * COOL_DOWN))
    def wait(self, ns):
        self.now += ns

    @rule(behind=st.integers(0, 2))
    def engage(self, behind):
        before = self.machine.mode
        refused = self.machine.engage(self.machine.epoch - behind, self.now)
        assert (refused is None) == (behind == 0 and before in (Mode.HOLD, Mode.AUTONOMOUS))

    @rule()
    def hold(self):
        self.machine.hold("test")

    @rule()
    def takeover(self):
        self.machine.takeover(self.now)

    @rule()
    def release(self):
        self.machine.release()

    @rule(cause=st.sampled_from("ab"), present=st.booleans())
    def estop(self, cause, present):
        self.machine.estop(cause, self.now, present)
        self.last_estop = self.now
        assert self.machine.mode == Mode.ESTOP

    @rule(cause=st.sampled_from("ab"))
    def clear(self, cause):
        self.machine.clear(cause)

    @rule(behind=st.integers(0, 2))
    def reset(self, behind):
        before, causes = self.machine.mode, set(self.machine.causes)
        refused = self.machine.reset(self.machine.epoch - behind, self.now)
        allowed = before == Mode.ESTOP and not causes and behind == 0 and self.now >= self.last_estop + COOL_DOWN
        assert (refused is None) == allowed
        self.was_reset = refused is None

    @invariant()
    def changes_are_epochs(self):
        mode, epoch = self.machine.mode, self.machine.epoch
        assert epoch >= self.seen[1]
        assert (mode == self.seen[0]) or epoch > self.seen[1]
        if self.seen[0] == Mode.ESTOP and mode != Mode.ESTOP:
            assert self.was_reset and mode == Mode.HOLD
        self.seen, self.was_reset = (mode, epoch), False


TestModes = Modes.TestCase
TestModes.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)


@given(st.integers(0, COOL_DOWN - 1))
def test_reset_is_refused_in_the_cool_down(elapsed):
    machine = latched()
    machine.clear("button")
    assert "cool-down" in machine.reset(machine.epoch, elapsed)
    assert machine.mode == Mode.ESTOP


def test_a_repeated_signal_starts_the_cool_down_again():
    machine = latched()
    machine.estop("button", COOL_DOWN - 1)
    machine.clear("button")
    assert "cool-down" in machine.reset(machine.epoch, COOL_DOWN + 1)


def test_a_press_while_a_reset_is_being_confirmed_makes_it_stale():
    """A stop pressed on one page was undone by the reset that somebody was about to confirm on another."""
    machine = latched()
    asked = machine.epoch
    machine.estop("button", COOL_DOWN + 1)
    machine.clear("button")  # as the page does before it asks for the reset
    assert "stale" in machine.reset(asked, LONG) and machine.mode == Mode.ESTOP
    assert machine.reset(machine.epoch, LONG) is None


def test_a_press_after_the_clock_was_set_back_is_a_press():
    """Incident: it was taken for the button's bounce, and the reset that somebody was confirming was accepted."""
    machine = latched(LONG)
    asked = machine.epoch
    machine.estop("button", 5)
    machine.clear("button")
    assert "stale" in machine.reset(asked, 5 + COOL_DOWN) and machine.mode == Mode.ESTOP


def test_a_button_that_is_held_and_repeats_itself_is_one_press():
    machine = latched()
    asked = machine.epoch
    for now in range(0, 5 * COOL_DOWN, COOL_DOWN // 4):
        machine.estop("button", now)
    assert machine.epoch == asked


def test_reset_is_refused_while_a_cause_is_present():
    machine = latched()
    machine.estop("joint states", 1)
    machine.clear("button")
    assert "joint states" in machine.reset(machine.epoch, LONG)


@given(st.integers(-3, 10).filter(lambda epoch: epoch != 1))
def test_reset_with_another_epoch_is_refused(epoch):
    machine = latched()
    machine.clear("button")
    assert "stale" in machine.reset(epoch, LONG)
    assert machine.reset(1, LONG) is None


def test_a_clock_that_goes_back_does_not_shorten_the_cool_down():
    machine = latched(now=LONG)
    machine.clear("button")
    assert "cool-down" in machine.reset(machine.epoch, 5)
    assert machine.reset(machine.epoch, 5 + COOL_DOWN) is None


def test_a_restart_stays_latched_with_its_cause_and_a_new_epoch(tmp_path):
    path = tmp_path / "gate.json"
    first = StateMachine(0, path)
    assert first.engage(0, 0) is None
    first.estop("button", 0)
    again = StateMachine(LONG, path)
    assert (again.mode, again.causes, again.reason) == (Mode.ESTOP, {"button"}, "button")
    assert again.epoch > first.epoch
    assert "cause" in again.reset(again.epoch, 2 * LONG)
    again.clear("button")
    assert "cool-down" in again.reset(again.epoch, LONG)
    assert again.reset(again.epoch, 2 * LONG) is None
    assert StateMachine(0, path).mode == Mode.HOLD


def test_a_restart_without_a_latch_holds_and_refuses_the_old_epoch(tmp_path):
    path = tmp_path / "gate.json"
    first = StateMachine(0, path)
    first.engage(first.epoch, 0)
    again = StateMachine(0, path)
    assert again.mode == Mode.HOLD and again.engage(first.epoch, 0) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"latched": false}', '{"epoch": "x"}'])
def test_a_state_that_cannot_be_read_counts_as_latched(tmp_path, content):
    path = tmp_path / "gate.json"
    path.write_text(content)
    machine = StateMachine(0, path)
    assert machine.mode == Mode.ESTOP
    assert json.loads(path.read_text())["latched"] is True


def test_a_full_disk_does_not_keep_an_emergency_stop_from_taking_effect(tmp_path):
    (tmp_path / "file").write_text("")
    machine = StateMachine(0, tmp_path / "file" / "gate.json")
    machine.estop("button", 0)
    assert machine.mode == Mode.ESTOP and machine.save_error


def test_while_nobody_could_learn_of_a_stop_after_a_restart_nothing_is_engaged(tmp_path):
    """Incident (review): a disk that went bad later than the start was noticed when autonomy had begun."""
    machine = StateMachine(0, tmp_path / "kept" / "gate.json")
    (tmp_path / "kept").rename(tmp_path / "gone")
    (tmp_path / "kept").write_text("")
    assert "state_file" in machine.engage(machine.epoch, 0) and machine.mode == Mode.HOLD
    (tmp_path / "kept").unlink()
    assert machine.engage(machine.epoch, 0) is None and machine.mode == Mode.AUTONOMOUS


def test_teleoperation_goes_before_the_policy_and_ends_in_hold():
    machine = StateMachine(0)
    machine.engage(0, 0)
    assert machine.takeover(0) is None and machine.mode == Mode.TELEOP
    assert machine.engage(machine.epoch, 0) is not None
    machine.release("deadman lost")
    assert (machine.mode, machine.reason) == (Mode.HOLD, "deadman lost")

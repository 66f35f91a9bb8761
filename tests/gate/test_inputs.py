import time

import pytest

from vla_mbpo.gate.inputs import ARM_DRIVER, JOINT_STATES, TASK, Inputs


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test lets pass."""
    at = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


@pytest.fixture
def inputs(clock):
    """All that the arm needs has just been heard."""
    made = Inputs(arm=0.3, task=1.0)
    for name in (JOINT_STATES, ARM_DRIVER):
        made.hear(name)
    return made


def passes(clock, inputs, seconds, *alive):
    clock[0] += seconds
    for name in alive:
        inputs.hear(name)


def test_what_was_never_heard_is_silent(clock):
    assert Inputs(arm=0.3, task=1.0).silent() == JOINT_STATES


@pytest.mark.parametrize("dead, alive", [(JOINT_STATES, ARM_DRIVER), (ARM_DRIVER, JOINT_STATES)])
def test_each_of_the_arms_inputs_is_missed(clock, inputs, dead, alive):
    passes(clock, inputs, 0.2, alive)
    assert inputs.silent() == ""
    passes(clock, inputs, 0.2, alive)
    assert inputs.silent() == dead == inputs.silent(autonomy=False)


def test_the_task_node_is_missed_in_an_attempt_alone(clock, inputs):
    inputs.attempt(3)
    passes(clock, inputs, 0.9, JOINT_STATES, ARM_DRIVER)
    assert inputs.silent() == ""
    passes(clock, inputs, 0.2, JOINT_STATES, ARM_DRIVER)
    assert inputs.silent() == TASK
    inputs.attempt(0)
    assert inputs.silent() == ""


def test_a_person_needs_no_task_node(clock, inputs):
    inputs.attempt(1)
    passes(clock, inputs, 5.0, JOINT_STATES, ARM_DRIVER)
    assert inputs.silent(autonomy=False) == "" == inputs.lost(autonomy=False)


def test_one_look_after_a_stall_loses_nothing(clock, inputs):
    assert inputs.lost(autonomy=True) == ""
    passes(clock, inputs, 5.0)  # the process stood still; its messages wait behind this look
    assert inputs.lost(autonomy=True) == ""
    passes(clock, inputs, 0.1)
    assert inputs.lost(autonomy=True) == JOINT_STATES

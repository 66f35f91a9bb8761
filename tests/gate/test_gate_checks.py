"""Each limit, broken by one value, is noticed, named and not repaired."""

from dataclasses import replace

import numpy as np
import pytest
from gate_samples import NOW, STAMP, checks, chunk, gate, resting_at, spec, state, still_rows, vet
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.chunk import ActionType, JointRows
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.gate import Gate, GateConfig
from vla_mbpo.gate.checks import CHECKS, REQUIRED, Stage, complete_set, gateable, required
from vla_mbpo.gate.conversion import CARTESIAN

JOINT = st.integers(0, 6)
SIGN = st.sampled_from([-1.0, 1.0])
JOINT_TYPES = (ActionType.JOINT_POSITION, ActionType.JOINT_DELTA)
PERIOD = 0.05  # s


def smooth(seed: int) -> np.ndarray:
    """Rows inside every limit: slow from rest at home."""
    t = np.arange(1, 17)[:, None] / 16
    return spec().home + np.random.default_rng(seed).uniform(-0.12, 0.12, 7) * t**2 * (3 - 2 * t)


@given(st.integers(0, 10_000))
def test_a_chunk_inside_the_limits_passes_unchanged(seed):
    rows = smooth(seed)
    verdict = vet(chunk(rows.copy()))
    assert isinstance(verdict, JointRows), verdict
    np.testing.assert_array_equal(verdict.positions, rows)
    assert not verdict.positions.flags.writeable


@given(st.integers(0, 10_000))
def test_deltas_become_the_same_rows_as_positions(seed):
    rows = smooth(seed)
    delta = vet(chunk(rows - spec().home, action_type=ActionType.JOINT_DELTA))
    np.testing.assert_allclose(delta.positions, rows, atol=1e-12)


@given(st.integers(0, 15), JOINT, SIGN, st.floats(1e-6, 3.0), st.sampled_from(JOINT_TYPES))
def test_a_position_outside_the_limits_is_refused_by_name(row, joint, sign, beyond, kind):
    rows = still_rows()
    limit = spec().upper if sign > 0 else spec().lower
    rows[row, joint] = limit[joint] + sign * beyond
    body = rows - spec().home if kind == ActionType.JOINT_DELTA else rows
    verdict = vet(chunk(body, action_type=kind))
    found = next(reason for reason in verdict if reason.check == "joint_position")
    assert (found.row, found.subject) == (row, spec().joints[joint])


@given(st.integers(1, 15), JOINT, SIGN, st.floats(1.01, 1.5))
def test_a_step_faster_than_the_velocity_limit_is_refused(row, joint, sign, factor):
    rows = still_rows()
    rows[row:, joint] += sign * factor * spec().velocity[joint] * PERIOD
    verdict = vet(chunk(rows))
    found = next(reason for reason in verdict if reason.check == "joint_velocity")
    assert (found.row, found.subject) == (row, spec().joints[joint])


@given(st.integers(2, 14), JOINT, SIGN)
def test_a_spike_below_the_velocity_limit_is_refused(row, joint, sign):
    rows = still_rows()
    rows[row, joint] += sign * 0.9 * spec().velocity[joint] * PERIOD
    verdict = vet(chunk(rows))
    found = next(reason for reason in verdict if reason.check == "joint_acceleration")
    assert (found.row, found.subject) == (row, spec().joints[joint])


@given(st.integers(0, 10_000))
def test_noise_of_a_learned_policy_is_no_spike(seed):
    rng = np.random.default_rng(seed)
    assert "joint_acceleration" not in checks(vet(chunk(still_rows() + rng.normal(0, 0.002, (16, 7)))))


@given(JOINT, SIGN, st.floats(0.2, 0.6))
def test_rows_that_start_elsewhere_are_refused(joint, sign, offset):
    away = still_rows()
    away[:, joint] += sign * offset
    assert checks(vet(chunk(away))) & {"join", "joint_position"}


@pytest.mark.parametrize(("joint", "offset", "note"), [(0, 0.11, "too far"), (1, 0.09, "too sudden")])
def test_the_first_row_to_come_is_bounded_by_speed_and_by_acceleration(joint, offset, note):
    """30 ms are left: a quick joint may not cover 0.11 rad in them, a weak one not reach 0.09 rad from rest."""
    away = still_rows()
    away[:, joint] += offset
    found = next(reason for reason in vet(chunk(away)) if reason.check == "join")
    assert (found.row, found.subject, found.note) == (2, spec().joints[joint], note)


@given(JOINT, st.floats(0.15, 0.6))
def test_motion_is_refused_while_the_arm_is_not_where_it_was_told_to_be(joint, offset):
    commanded = spec().home.copy()
    commanded[joint] += offset
    assert "servo_lag" in checks(vet(chunk(), commanded=commanded))


@given(JOINT, st.floats(0.4, 1.0))
def test_a_chunk_made_for_another_pose_is_refused(joint, offset):
    reference = spec().home.copy()
    reference[joint] += offset
    assert "reference" in checks(vet(chunk(reference=reference)))


@given(st.integers(0, 15), st.sampled_from([-0.01, 0.09, 1e6 - 1, -1.0]))
def test_an_opening_outside_the_range_is_refused(row, opening):
    gripper = np.full(16, 0.04)
    gripper[row] = opening
    verdict = vet(chunk(gripper=gripper))
    assert next(reason for reason in verdict if reason.check == "gripper_range").row == row


@given(st.integers(1, 15), SIGN)
def test_an_opening_that_jumps_is_refused(row, sign):
    gripper = np.full(16, 0.04)
    gripper[row:] += sign * 0.03
    verdict = vet(chunk(gripper=gripper))
    assert next(reason for reason in verdict if reason.check == "gripper_speed").row == row


@given(
    st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-301]),
    st.sampled_from(["positions", "gripper", "reference"]),
    st.integers(0, 15),
    JOINT,
    st.sampled_from(JOINT_TYPES),
)
def test_numbers_that_are_no_numbers_are_refused(bad, field, row, joint, kind):
    of = chunk(action_type=kind) if kind == ActionType.JOINT_POSITION else chunk(np.zeros((16, 7)), action_type=kind)
    array = getattr(of, field).copy()
    array[(row, joint) if field == "positions" else (row,) if field == "gripper" else (joint,)] = bad
    assert "finite" in checks(vet(replace(of, **{field: array})))


@given(st.sampled_from(["positions", "velocities", "commanded"]), JOINT, st.sampled_from([np.nan, np.inf]))
def test_a_measured_state_with_holes_is_refused(field, joint, bad):
    broken = spec().home.copy()
    broken[joint] = bad
    measured = state() if field == "commanded" else state(**{field: broken})
    commanded = broken if field == "commanded" else None
    assert checks(vet(chunk(), measured, commanded)) == {"measured_state"}


@given(st.integers(101, 100_000))
def test_a_stale_measured_state_is_refused(age_ms):
    assert "measured_state" in checks(vet(chunk(), state(stamp=NOW - age_ms * 1_000_000)))


@given(st.integers(401, 10_000_000))
def test_an_old_chunk_is_refused_even_if_it_has_just_arrived(age_ms):
    now = STAMP + age_ms * 1_000_000
    far = chunk(expiry=now + 1)
    assert "age" in checks(vet(far, state(stamp=now), now=now))


@given(st.integers(21, 10_000_000))
def test_a_chunk_from_the_future_is_refused(ahead_ms):
    now = STAMP - ahead_ms * 1_000_000
    assert "age" in checks(vet(chunk(), state(stamp=now), now=now))


def test_an_expired_chunk_is_refused():
    assert "age" in checks(vet(chunk(expiry=NOW - 1)))


def test_a_chunk_whose_rows_are_all_past_is_refused():
    assert "age" in checks(vet(chunk(still_rows(2))))


@given(st.integers(0, 20), st.integers(0, 9), st.integers(0, 20), st.integers(0, 9), st.integers(-2, 20), st.booleans())
def test_no_layout_makes_the_gate_fail(rows, columns, openings, references, committed, single):
    kind = np.float32 if single else np.float64
    of = chunk(
        np.zeros((rows, columns), kind), gripper=np.zeros(openings), reference=np.zeros(references),
        committed_rows=committed,
    )  # fmt: skip
    verdict = vet(of)
    right = 1 <= rows <= 16 and columns == 7 and openings in (0, rows) and references == 7 and not single
    assert ("format" in checks(verdict)) == (not (right and 0 <= committed <= spec().commit_rows))
    assert all(reason.subject != "check" for reason in verdict), "a check broke down"


@pytest.mark.parametrize(
    "changes",
    [
        {"joint_names": spec().joints[::-1]},
        {"row_period": 40_000_000},
        {"row_period": 0},
        {"positions": np.zeros(112)},
        {"gripper": [0.04] * 16},
    ],
)
def test_another_layout_is_refused(changes):
    of = chunk()
    for field, value in changes.items():
        object.__setattr__(of, field, value)  # as a broken converter could make it
    assert checks(vet(of)) == {"format"}


def test_the_way_between_rows_is_looked_at_too():
    rows = smooth(1)
    vet(chunk(rows))
    tool = gate().kinematics.tool.copy()
    gate().kinematics.place(rows[1:3].mean(axis=0)[None])
    np.testing.assert_allclose(tool[3], gate().kinematics.tool[0])


def test_the_workspace_holds_for_every_row():
    out = spec().home.copy()
    out[0] = 1.9  # turns the tool out of the box sideways
    assert "workspace" in checks(resting_at(out))


def test_a_check_that_breaks_down_refuses():
    class Broken:
        name, stage = "broken", Stage.VALUES

        def __call__(self, *_):
            raise ZeroDivisionError

    own = Gate(spec())
    own._stages = {ActionType.JOINT_POSITION: [(Broken(),)]}
    assert checks(vet(chunk(), by=own)) == {"broken"}


def test_cheap_checks_come_first_and_geometry_only_after_them():
    rows = still_rows()
    rows[3] = np.nan
    before = gate().kinematics.tool.copy()
    assert checks(vet(chunk(rows))) == {"finite"}
    np.testing.assert_array_equal(gate().kinematics.tool, before)


@pytest.mark.parametrize("kind", list(ActionType))
def test_every_action_type_has_all_checks_or_no_gate(kind):
    names = {check.name for check in CHECKS[kind]}  # KeyError: a new type slipped through
    assert kind in gateable() and names >= required(kind)
    huge = np.full((16, 6 if kind in CARTESIAN else 7), 9.0)
    assert checks(vet(chunk(huge, action_type=kind)))


def test_a_type_that_is_not_configured_is_refused():
    only = Gate(spec(), GateConfig(action_types=(ActionType.JOINT_POSITION,)))
    assert checks(vet(chunk(action_type=ActionType.JOINT_DELTA), by=only)) == {"action_type"}


def test_a_type_that_loses_a_check_is_refused(monkeypatch):
    for kind in ActionType:
        for missing in required(kind):
            monkeypatch.setitem(CHECKS, kind, tuple(check for check in CHECKS[kind] if check.name != missing))
            with pytest.raises(ConfigError, match="action_types"):
                complete_set(kind)
            monkeypatch.undo()


def test_the_set_of_required_checks_is_what_exists():
    assert {check.name for check in CHECKS[ActionType.JOINT_POSITION]} == REQUIRED

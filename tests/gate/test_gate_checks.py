"""Each limit, broken by one value, is noticed, named and not repaired."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from gate_samples import NOW, STAMP, checks, chunk, gate, resting_at, spec, state, still_rows, vet
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.arm.smoother import MARGIN
from vla_mbpo.core.chunk import ActionType, JointRows
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.gate.checks import CHECKS, REQUIRED, Context, Stage, complete_set, gateable, required
from vla_mbpo.gate.checks.check import BRAKE_SHARE
from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.conversion import CARTESIAN
from vla_mbpo.gate.gate import Gate

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
    rows = still_rows()
    rows[1:, :3] += 0.02  # three joints: 6 cm at a metre's reach, so one point between
    context = Context(spec(), gate().config, gate().kinematics, state(), None, NOW)
    tool = context.placed(rows).tool.copy()
    assert context.points == 17 and [context.row_of(k) for k in range(4)] == [0, 1, 1, 2]
    gate().kinematics.place(rows[:2].mean(axis=0)[None])
    np.testing.assert_allclose(tool[1], gate().kinematics.tool[0])


def test_the_gate_reckons_with_the_brake_that_the_arm_driver_has():
    assert BRAKE_SHARE == MARGIN


def test_rows_from_whose_end_the_arm_cannot_stop_above_the_table_are_refused():
    """Incident: plunges whose last row lay 3 to 8 cm above the table, at 2 rad/s, and nothing after it."""
    start, t = spec().home.copy(), np.arange(1, 17) / 16
    start[1] += 0.2

    def down(curve):
        rows = np.tile(start, (16, 1))
        rows[:, 1] += 0.8 * curve
        return rows

    def verdict(rows):
        return checks(vet(chunk(rows, reference=start.copy()), state(positions=start.copy()), start))

    gate().kinematics.place(down(t**2)[-1:])
    assert gate().kinematics.table_clearance().min() > 0.03
    assert "table" in verdict(down(t**2))  # faster and faster
    assert not verdict(down(t**2 * (3 - 2 * t)))  # the same way, with a stop at its end


def test_the_workspace_holds_for_every_row():
    out = spec().home.copy()
    out[0] = 1.9  # turns the tool out of the box sideways
    assert "workspace" in checks(resting_at(out))


def sideways(angles):
    """Checks that refuse a chunk through these angles of the first joint, the arm being commanded to the first."""
    rows = np.tile(spec().home, (16, 1))
    rows[:, 0] = angles
    return checks(vet(chunk(rows, reference=rows[0].copy()), state(positions=rows[0].copy()), rows[0].copy()))


@cache
def edge():
    """Angle of the first joint at which the tool leaves its box."""
    inside, outside = 0.0, 1.9
    for _ in range(30):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if "workspace" in sideways(np.full(16, middle)) else (middle, outside)
    return outside


@given(st.floats(0.001, 0.05), st.floats(0.55, 2.0))
def test_from_just_outside_the_box_what_leads_back_in_passes(beyond, share):
    """Incident: after a brake that ended 2 mm outside, every chunk and every joystick command was refused."""
    start = edge() + beyond
    assert not sideways(start - beyond * share * np.linspace(0, 1, 16))


@given(st.floats(0.001, 0.05), st.floats(-1.0, 0.45))
def test_from_just_outside_the_box_what_stays_or_goes_farther_is_refused(beyond, share):
    assert "workspace" in sideways(edge() + beyond - beyond * share * np.linspace(0, 1, 16))


@given(st.floats(0.001, 0.05))
def test_what_leads_back_in_may_not_go_out_first(beyond):
    detour = np.sin(np.linspace(0, np.pi, 16))
    way = 0.05 * detour - 1.2 * beyond * np.linspace(0, 1, 16)
    assert "workspace" in sideways(edge() + beyond + way)


def lowered(gap, rise):
    """Checks that refuse a chunk that rises by ``rise`` [m] when the arm is ``gap`` [m] above the table."""
    start = np.array([0.0, 0.6, 0.0, -2.2, 0.0, 2.8, 0.785])

    def clearance(shoulder):
        start[1] = shoulder
        gate().kinematics.place(start[None])
        return gate().kinematics.table_clearance().min()

    def shoulder_at(height):
        low, high = 0.3, 1.3
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if clearance(middle) > height else (low, middle)
        return low

    first, last = shoulder_at(gap), shoulder_at(gap + rise)
    rows = np.tile(start, (16, 1))
    rows[:, 1] = np.linspace(first, last, 16)
    return checks(vet(chunk(rows, reference=rows[0].copy()), state(positions=rows[0].copy()), rows[0].copy()))


@pytest.mark.parametrize(
    "share, rise, refused",
    [(0.5, 0.02, False), (0.1, 0.02, False), (0.5, 0.0, True), (0.5, -0.0002, True), (-0.5, 0.02, True)],
    ids=["half the margin", "nearly touching", "stays", "sinks", "in contact"],
)
def test_from_inside_the_margin_the_arm_may_rise_but_not_out_of_contact(share, rise, refused):
    """What touches may be held or jammed: nothing that begins in contact passes."""
    assert ("table" in lowered(share * spec().table_margin, rise)) == refused


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

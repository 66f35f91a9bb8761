"""Chunks corrupted on purpose: each way changes the chunk, the gate sees it, and the schedule is the seed's."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.state import RobotState
from vla_mbpo.eval.corruption import WAYS, Case, Corruption
from vla_mbpo.eval.lockstep import Attempt, Settings
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.ik import ToolIK
from vla_mbpo.policy.runtime import PolicySession

STAMP, LATENCY = 10_000_000_000, 100_000_000
NOW = STAMP + LATENCY
SPEED = np.array([0.5, 0.1, -0.6, 0.3, 0.8, -0.2, -0.9])  # rad/s
# Where the arm stands, rows that repeat, reverse, stretch or swap its motion are rows that stand still, and harmless.
# A plunge from high above is smooth and its rows end above the table, so no check of the rows themselves refuses it.
MAY_PASS_AT_REST = {"runaway", "stale", "reverse", "swap", "plunge"}


@pytest.fixture(scope="module")
def gate(spec) -> Gate:
    return Gate(spec)


@pytest.fixture(scope="module")
def ik(spec) -> ToolIK:
    return ToolIK(spec, spec.home)


def chunk_of(spec, speed: np.ndarray, stamp: int = STAMP) -> ActionChunk:
    """A chunk that moves on from home at ``speed``, its first rows committed."""
    times = np.arange(1, spec.horizon + 1)[:, None] * spec.row_period / 1e9
    expiry = stamp + spec.horizon * spec.row_period
    return ActionChunk(
        stamp + 1, 0, stamp, expiry, ActionType.JOINT_POSITION, spec.joints, spec.home.copy(), spec.row_period,
        spec.home + times * speed, np.linspace(0.04, 0.06, spec.horizon), spec.commit_rows,
    )  # fmt: skip


def corrupted(spec, ik, way: str, speed: np.ndarray) -> ActionChunk:
    older = chunk_of(spec, -speed)
    return Case(chunk_of(spec, speed), older, spec, ik, np.random.default_rng(3)).corrupted(way)


def vet(spec, gate, chunk: ActionChunk, speed: np.ndarray) -> set[str]:
    """Checks that refuse the chunk; the arm is where the uncorrupted one has it."""
    here = spec.home + speed * LATENCY / 1e9
    found = gate.vet(chunk, RobotState(NOW, here, speed.copy(), 0.04), here, NOW)
    return set() if isinstance(found, JointRows) else {reason.check for reason in found}


def test_the_uncorrupted_chunk_passes(spec, gate):
    for speed in (SPEED, -SPEED, 0.0 * SPEED):
        assert vet(spec, gate, chunk_of(spec, speed), speed) == set()


@pytest.mark.parametrize("way", WAYS)
def test_each_way_changes_new_rows_only_and_the_gate_refuses_the_result(spec, gate, ik, way):
    good, bad = chunk_of(spec, SPEED), corrupted(spec, ik, way, SPEED)
    d = spec.commit_rows
    assert np.array_equal(bad.positions[:d], good.positions[:d])
    assert not np.array_equal(bad.positions[d:], good.positions[d:])
    assert vet(spec, gate, bad, SPEED)


@pytest.mark.parametrize("way", WAYS)
def test_where_the_arm_stands_high_up_the_others_are_refused(spec, gate, ik, way):
    still = 0.0 * SPEED
    if way not in MAY_PASS_AT_REST:
        assert vet(spec, gate, corrupted(spec, ik, way, still), still)


def test_a_plunge_that_reaches_the_table_is_refused_for_that(spec, gate):
    ik = ToolIK(spec, spec.home)
    low = replace(spec, home=ik.solve(np.array([0.5, 0.0, 0.15]), iterations=30))
    still = 0.0 * SPEED
    assert vet(low, gate, chunk_of(low, still), still) == set()
    assert "table" in vet(low, gate, corrupted(low, ik, "plunge", still), still)


@pytest.mark.parametrize("way", WAYS)
def test_every_candidate_is_corrupted_in_the_same_way(spec, ik, way):
    first, second = (corrupted(spec, ik, way, SPEED).positions for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True)


def test_an_old_stamp_or_a_whole_chunk_offset_never_moves_the_arm_even_without_the_gate(spec):
    """Why neither is among the ways."""
    old, offset = chunk_of(spec, SPEED, STAMP - 2_000_000_000), chunk_of(spec, SPEED)
    offset = replace(offset, positions=offset.positions + 0.4)
    for chunk, check in ((old, "expired"), (offset, "gap")):
        driver = ArmDriver(spec)
        driver.measure(RobotState(NOW, spec.home.copy(), np.zeros_like(spec.home), 0.04))
        rows = JointRows(
            1, 0, chunk.observation_stamp, chunk.expiry, spec.joints, chunk.row_period, chunk.positions, chunk.gripper
        )
        assert [reason.check for reason in driver.offer(rows, NOW)] == [check]


def schedule(spec, seed: int, share: float, sets: int = 200, speed: np.ndarray = SPEED) -> list[tuple]:
    corruption = Corruption(spec, seed, share)
    for i in range(sets):
        corruption.apply([chunk_of(spec, speed)] * 2, i)
    return [(entry["time"], entry["way"]) for entry in corruption.log]


def test_the_schedule_is_the_seeds_whatever_the_chunks(spec):
    assert schedule(spec, 7, 0.1) == schedule(spec, 7, 0.1, speed=-SPEED) != schedule(spec, 8, 0.1)


def test_the_share_of_sets_is_corrupted_in_all_ways(spec):
    found = schedule(spec, 1, 0.5, sets=400)
    assert 150 < len(found) < 250
    assert {way for _, way in found} == set(WAYS)
    assert len(schedule(spec, 1, 1.0, sets=20)) == 20


def test_a_share_of_0_leaves_the_chunks_themselves(spec):
    chunks = [chunk_of(spec, SPEED)]
    corruption = Corruption(spec, 0, 0.0)
    assert all(corruption.apply(chunks, i) is chunks for i in range(50))
    assert corruption.log == []


@pytest.mark.parametrize("gate_on", [True, False])
def test_an_attempt_reports_its_corrupted_sets(spec, tiny_bundle, gate_on):
    session = PolicySession.load(tiny_bundle)
    settings = Settings(k=2, timeout=2.0, gate=gate_on, corrupt=1.0)
    outcome = Attempt(spec, session, "button", 1_600_000, settings).run()
    assert len(outcome.corruptions) == outcome.chunks
    assert len(outcome.cost_times) == len(outcome.cost_events)
    for entry in outcome.corruptions:
        assert entry["passed"] or (gate_on and entry["gate"])
    same = asdict(Attempt(spec, session, "button", 1_600_000, settings).run())
    assert same["corruptions"] == outcome.corruptions

"""The default bundle on the running stack: attempts in real time, one after the other."""

import numpy as np
import pytest

from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import running_stack
from vla_mbpo.nodes import qos
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.sim.tasks import TASKS, TEST_SEED_BASE
from vla_mbpo.training.recorded import rollout
from vla_mbpo.training.rollout_data import Rollouts

SEED = TEST_SEED_BASE + 950_000
TASK, ATTEMPTS = "button", 3


HEARD = (
    qos.JOINT_STATES, qos.HEAD_IMAGE, qos.WRIST_IMAGE, qos.COMMITMENT, qos.ACTION_CHUNKS, qos.TASK_STATUS,
)  # fmt: skip


@pytest.fixture(scope="module")
def session():
    """Outcomes, all that was said, and what had been said when the first attempt was over."""
    heard = {topic.name: [] for topic in HEARD}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", "0")  # put back afterwards; the stack takes a domain of its own
        with running_stack("sim_panda", Options(scene=TASK, seed=SEED, page=False)) as stack:
            for topic in HEARD:
                keep = heard[topic.name].append
                stack.client.node.create_subscription(topic.type, topic.name, keep, topic.qos)
            outcomes = [stack.attempt(TASK, SEED, 15.0)]
            first = {name: list(messages) for name, messages in heard.items()}
            outcomes += [stack.attempt(TASK, SEED + i, 15.0) for i in range(1, ATTEMPTS)]
    return outcomes, heard, first


@pytest.fixture(scope="module")
def attempts(session, spec):
    """Outcomes, and the joint velocities of the whole run [rad/s], (t, n)."""
    outcomes, heard, _ = session
    return outcomes, np.array([m.velocity for m in heard[qos.JOINT_STATES.name]])[:, : len(spec.joints)]


@pytest.fixture(scope="module")
def recorded(session, spec):
    """The first attempt as a rollout, from its messages, and its outcome."""
    outcomes, _, first = session
    return rollout(spec, *(first[topic.name] for topic in HEARD)), outcomes[0]


def test_a_recorded_attempt_is_a_rollout_like_those_of_the_simulator(recorded, spec, tmp_path):
    """The world model reads both with the same code."""
    made, outcome = recorded
    np.savez(tmp_path / "live.npz", **made)
    data = Rollouts([tmp_path / "live.npz"], spec, Vocabulary.of([task.instruction for task in TASKS.values()]))
    assert len(data) == len(made["at"]) >= 3
    facts = {"source": "live", "task": TASK, "seed": SEED, "success": outcome.success}
    assert facts.items() < data.facts[0].items() and data.facts[0]["policy"].startswith("sft_full@")
    assert data.pictures[0].shape[1:] == (96, 96, 3) and data.bins.shape[1:] == (16, 11)
    assert (data.outcome[:, :, 2] == outcome.success).all()
    assert not data.placed.any()  # nobody told it where things are
    assert made["cost"].sum() == len(outcome.cost_events)


def test_a_recorded_attempts_rows_are_what_the_arm_did(recorded):
    made, _ = recorded
    after = made["set_point"][made["at"][1:] - 1]
    assert np.abs(made["joints"][1:] - after).max() < 0.15  # the servos' lag, and pauses of a busy machine
    assert np.abs(np.diff(made["set_point"], axis=0)).max() > 0.005


def test_a_recorded_attempts_candidates_lie_at_the_look_they_were_made_from(recorded):
    made, _ = recorded
    first = made["candidates"][0]
    assert first.shape == (8, 16, 8) and np.abs(made["features"][0]).sum() > 0
    assert np.abs(first[:, 0, :7] - made["joints"][0]).max() < 0.2


def test_the_arm_finishes_its_task(attempts):
    """On a busy machine an attempt may fail; not every one."""
    outcomes, _ = attempts
    assert any(o.success for o in outcomes), outcomes
    assert all(o.chunks >= 2 for o in outcomes), outcomes


def test_no_reset_moves_the_arm(attempts, spec):
    """Incident: after /sim/reset the driver pulled the arm back to where it had been, at 6.8 rad/s."""
    _, velocities = attempts
    assert len(velocities) > 500
    assert (np.abs(velocities) <= 1.2 * spec.velocity).all(), np.abs(velocities).max(axis=0)

"""The default bundle on the running stack: attempts in real time, one after the other."""

import numpy as np
import pytest

from vla_mbpo.bringup import Options
from vla_mbpo.eval.realtime import running_stack
from vla_mbpo.nodes import qos
from vla_mbpo.sim.tasks import TEST_SEED_BASE

SEED = TEST_SEED_BASE + 950_000
TASK, ATTEMPTS = "button", 3


@pytest.fixture(scope="module")
def attempts(spec):
    """Outcomes, and the joint velocities of the whole run [rad/s], (t, n)."""
    velocities = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", "0")  # put back afterwards; the stack takes a domain of its own
        with running_stack("sim_panda", Options(scene=TASK, seed=SEED, page=False)) as stack:
            topic = qos.JOINT_STATES
            stack.client.node.create_subscription(
                topic.type, topic.name, lambda m: velocities.append(m.velocity), topic.qos
            )
            outcomes = [stack.attempt(TASK, SEED + i, 15.0) for i in range(ATTEMPTS)]
    return outcomes, np.array(velocities)[:, : len(spec.joints)]


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

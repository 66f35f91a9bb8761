"""`promote` and `rollback` tell a stack that is not found from one that is not there."""

import os

import pytest
from vla_mbpo_msgs.msg import ReleaseState

from vla_mbpo.nodes.client import StackClient
from vla_mbpo.processes import lock_domain
from vla_mbpo.releases import running


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What comes of asking the stack of this domain to swap."""
    monkeypatch.setattr(running, "DISCOVERY", 1.0)
    monkeypatch.setattr(running, "STARTING", 1.0)

    def ask():
        with running.running_stack(tmp_path) as stack:
            return stack.swap(tmp_path / "a", now=False)

    return ask


def test_where_no_stack_is_none_refuses(asked):
    swapped = asked()
    assert not swapped.refused and "no stack is running" in swapped.message


def test_a_stack_that_holds_the_domain_and_is_not_heard_refuses(asked):
    """On a busy machine it took longer than 4 s to find; the release went live without it."""
    with lock_domain(os.environ["ROS_DOMAIN_ID"]):
        swapped = asked()
    assert swapped.refused and "does not say what it uses" in swapped.message


def test_a_stack_whose_node_that_swaps_is_gone_refuses(asked, monkeypatch):
    monkeypatch.setattr(StackClient, "swap_ready", False)
    heard = StackClient.__init__

    def init(self, *words):
        heard(self, *words)
        self.release = ReleaseState(release="/store/a")

    monkeypatch.setattr(StackClient, "__init__", init)
    swapped = asked()
    assert swapped.refused and "has no node that swaps" in swapped.message

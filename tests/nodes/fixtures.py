"""Every test gets a ROS domain of its own, on this machine only."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Graph
from scripted_bundle import write_bundle

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import ros_environment


@pytest.fixture(scope="session", autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A domain that no other test run on this machine uses; 1 to 100, whose ports lie below the ephemeral ones."""
    os.environ.update(ros_environment())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    for domain in range(1, 101):
        lock = open(f"/tmp/vla_mbpo_test_domain_{domain}.lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        yield domain
        lock.close()
        return
    pytest.fail("100 test runs at once?")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec) -> Path:
    """A policy bundle that turns the last joint."""
    return write_bundle(tmp_path_factory.mktemp("models") / "scripted", spec)


@pytest.fixture
def graph() -> Iterator[Graph]:
    """Nodes of this process in one executor."""
    made = Graph()
    yield made
    made.close()

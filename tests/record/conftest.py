import os

import pytest

from vla_mbpo.paths import ros_environment


@pytest.fixture(scope="session", autouse=True)
def interfaces():
    """Where message definitions are found."""
    os.environ.update(ros_environment())

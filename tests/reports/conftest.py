import os
import sys
from pathlib import Path

import pytest

from vla_mbpo.paths import ros_environment

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("training", "record")]


@pytest.fixture(scope="session", autouse=True)
def interfaces():
    """Where message definitions are found."""
    os.environ.update(ros_environment())

import os
import sys
from pathlib import Path

import pytest

from vla_mbpo.paths import ros_environment

for folder in ("training", "nodes"):  # recordings.py, scripted_bundle.py
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))


@pytest.fixture(scope="session", autouse=True)
def interfaces():
    """Where message definitions are found."""
    os.environ.update(ros_environment())

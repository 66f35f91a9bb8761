import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from scripted_bundle import write_bundle  # noqa: E402

from vla_mbpo.policy.bundle import Bundle  # noqa: E402

PARITY = {"encoder": 5e-6, "step": 3e-6}


@pytest.fixture(scope="session")
def policies(spec, tmp_path_factory):
    """Versions of the scripted policy, for reading only."""
    folder = tmp_path_factory.mktemp("policies")
    names = ("old", "new", "newer")
    return {name: Bundle.load(write_bundle(folder / name, spec, name=name, parity=PARITY)) for name in names}

import os

import pytest

from vla_mbpo.paths import ros_environment


@pytest.fixture(scope="session", autouse=True)
def interfaces():
    """Where message definitions are found."""
    os.environ.update(ros_environment())


@pytest.fixture(scope="session")
def recordings(spec, tmp_path_factory):
    """Two complete attempts and one of which messages are missing."""
    from lerobot_samples import write

    return write(tmp_path_factory.mktemp("recordings"), spec)


@pytest.fixture(scope="session")
def exported(recordings, spec, tmp_path_factory):
    """A dataset of them, and what the export said."""
    from vla_mbpo.record.lerobot.export import export

    out = tmp_path_factory.mktemp("exported") / "dataset"
    return out, export(recordings, out, spec)

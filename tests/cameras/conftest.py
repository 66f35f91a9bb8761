import pytest

from vla_mbpo.paths import ros_environment


@pytest.fixture(autouse=True)
def ros(monkeypatch):
    """Where message definitions are."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", ros_environment()["AMENT_PREFIX_PATH"])

"""A copy of the robot's folder that a test may spoil."""

import shutil
from pathlib import Path

import yaml

ROBOT = Path(__file__).parents[2] / "config" / "robots" / "sim_panda"


def spoiled(tmp_path: Path, **changes) -> Path:
    """Folder with ``changes`` in robot.yaml; None removes a field."""
    folder = tmp_path / "robot"
    shutil.copytree(ROBOT, folder, dirs_exist_ok=True)
    raw = yaml.safe_load((ROBOT / "robot.yaml").read_text()) | changes
    raw = {key: value for key, value in raw.items() if value is not None}
    (folder / "robot.yaml").write_text(yaml.safe_dump(raw))
    return folder

"""What tasks are called: the tabletop's, those of another world's robot, that of an episode. No simulator."""

from collections.abc import Mapping
from typing import Any

import yaml

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.paths import robot_dir
from vla_mbpo.sim.tasks import TASKS, Task

TASK_FILE = "tasks.yaml"  # beside robot.yaml, where the robot is not the tabletop's


def tasks_of(robot: str) -> Mapping[str, Task]:
    """Tasks of a robot, a name or folder: those of the tabletop, or what its tasks.yaml says.

    ConfigError: that file is none.
    """
    file = robot_dir(robot) / TASK_FILE
    if not file.is_file():
        return TASKS
    raw = yaml.safe_load(file.read_text())
    require(isinstance(raw, dict) and bool(raw), str(file), type(raw).__name__, "a mapping of tasks")
    try:
        return {
            name: Task(name, str(one["instruction"]), "", "", "", bool(one.get("held_out", False)))
            for name, one in raw.items()
        }
    except (KeyError, TypeError) as error:
        raise ConfigError(str(file), f"{type(error).__name__} {error}", "NAME: {instruction: TEXT, …}") from None


def instruction_of(episode: Mapping[str, Any]) -> str:
    """What the task of an episode is called: by the episode itself, or by the tabletop's tasks."""
    return str(episode["instruction"]) if "instruction" in episode else TASKS[str(episode["task"])].instruction

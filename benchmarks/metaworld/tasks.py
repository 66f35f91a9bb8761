"""The 50 tasks, their instructions and difficulty groups (robot/tasks.yaml). No simulator."""

from pathlib import Path

import yaml

ROBOT = "benchmarks/metaworld/robot"  # from the repository's root, where all commands are given
GROUPS = ("easy", "medium", "hard", "very hard")
DREAM_TASKS = ("coffee-pull", "lever-pull", "soccer", "door-lock", "handle-pull", "hammer")
"""Four of them are in World4RL's table (coffee-pull, lever-pull, soccer, door-lock)."""

_RAW = yaml.safe_load((Path(__file__).parent / "robot" / "tasks.yaml").read_text())
INSTRUCTIONS: dict[str, str] = {name: one["instruction"] for name, one in _RAW.items()}
GROUP_OF: dict[str, str] = {name: one["group"] for name, one in _RAW.items()}

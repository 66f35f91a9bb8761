"""The ten tasks: what each is called, what is said, which object and which goal it is about."""

from collections.abc import Mapping
from dataclasses import dataclass

from vla_mbpo.core.errors import ConfigError

TRAIN_SEEDS = range(0, 1_000_000)
CALIBRATION_SEEDS = range(1_000_000, 2_000_000)
TEST_SEED_BASE = 2_000_000  # test seed S is scene seed TEST_SEED_BASE + S

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Task:
    """One task of the tabletop.

    Attributes:
        name: key in TASKS.
        instruction: what the operator says.
        kind: place, stack, push, press or open.
        cube: the cube that is moved, or an empty string.
        goal: bin, plate, mark, button, drawer, or the cube that is stacked upon.
        held_out: never seen in training of any model.
    """

    name: str
    instruction: str
    kind: str
    cube: str
    goal: str
    held_out: bool = False


def _all() -> dict[str, Task]:
    held_out = {("green", "bin"), ("blue", "plate")}
    tasks = [
        Task(
            f"{cube}_{goal}",
            f"put the {cube} cube {'in' if goal == 'bin' else 'on'} the {goal}",
            "place",
            cube,
            goal,
            (cube, goal) in held_out,
        )
        for goal in ("bin", "plate")
        for cube in COLOURS
    ]
    tasks += [
        Task("stack", "stack the red cube on the green cube", "stack", "red", "green"),
        Task("push", "push the blue cube to the mark", "push", "blue", "mark"),
        Task("button", "press the button", "press", "", "button"),
        Task("drawer", "open the drawer", "open", "", "drawer"),
    ]
    return {task.name: task for task in tasks}


TASKS = _all()
TRAINING_TASKS = tuple(name for name, task in TASKS.items() if not task.held_out)
HELD_OUT_TASKS = tuple(name for name, task in TASKS.items() if task.held_out)


def task_of(instruction: str, tasks: Mapping[str, Task] = TASKS) -> str:
    """Name of the task with that instruction, whatever its case and spaces; empty: there is none."""
    words = instruction.lower().split()
    return next((name for name, task in tasks.items() if task.instruction.lower().split() == words), "")


def find_task(name: str, tasks: Mapping[str, Task] = TASKS) -> Task:
    """The task of that name; ConfigError lists the names."""
    if name not in tasks:
        raise ConfigError("task", name, f"tasks: {', '.join(tasks)}")
    return tasks[name]

"""Values that cross module boundaries."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.verdict import Reason, Verdict

SOURCE = Path(__file__).parents[2] / "src" / "vla_mbpo"
STAMPS = st.integers(0, 2**62)


def chunk(stamp: int) -> ActionChunk:
    return ActionChunk(
        1, 0, stamp, stamp, ActionType.JOINT_POSITION, ("a",), np.zeros(1), 50_000_000, np.zeros((16, 1)), np.zeros(0)
    )  # fmt: skip


@given(STAMPS, st.integers(0, 15))
def test_due_times_are_exact(stamp, row):
    of = chunk(stamp)
    rows = JointRows(1, 0, stamp, stamp, ("a",), 50_000_000, of.positions, of.gripper)
    assert of.due(row) == rows.due(row) == stamp + (row + 1) * 50_000_000
    assert of.horizon == 16


@pytest.mark.parametrize("field", ["positions", "reference", "gripper"])
def test_a_chunk_cannot_be_changed(field):
    with pytest.raises(ValueError, match="read-only"):
        getattr(chunk(0), field)[...] = 1.0


def test_unknown_is_the_default_verdict_and_not_safe():
    assert Verdict(0) is Verdict.UNKNOWN and Verdict.UNKNOWN != Verdict.SAFE


def test_a_reason_reads_as_one_line():
    text = str(Reason("joint_velocity", 3, "panda_joint2", 2.5, 2.175, "too fast"))
    assert text == "joint_velocity: row 3 panda_joint2 2.5 (limit 2.175); too fast"


@pytest.mark.parametrize("package", ["core", "gate", "arm"])
def test_motion_modules_need_neither_ros_nor_torch(package):
    allowed = {"vla_mbpo", "numpy", "mujoco", "mink", "ruckig", "yaml"} | set(sys.stdlib_module_names)
    for file in (SOURCE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed, f"{file.name} imports {name}"
                inside = name.split(".")[1] if name.startswith("vla_mbpo.") else package
                ahead = file.name == "drive.py" and inside == "arm"  # the gate runs the driver's motion ahead
                assert inside in {"core", package} or ahead, f"{file.name} imports {name}"

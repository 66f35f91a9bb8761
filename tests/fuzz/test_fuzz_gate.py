"""The fuzzing harness itself works, on a few thousand inputs.

A million of them: `python -m tests.fuzz.fuzz_gate --runs 1000000`, a quarter of an hour.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("way", [[], ["--blind"]])
def test_a_short_run_finds_nothing_and_gets_everywhere(way, tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "tests.fuzz.fuzz_gate", "--runs", "3000", "--seed", "3", "--json", str(out), *way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(out.read_text())
    assert result["runs"] == 3000 and result["approved"] > 100 and not result["crashes"] and result["bounded"]
    # The rarest, and one that needs a lower limit of speed than the robot's own.
    assert set(result["never_reached"]) <= {"tool_speed", "self_collision", "driven_velocity"}

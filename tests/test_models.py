"""The files in models/: what is kept of training runs can be opened, and nothing says on which machine it was made."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

MODELS = Path(__file__).parents[1] / "models"
RUNS = sorted(file.parent for file in MODELS.glob("training/*/state.json"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_kept_run_holds_an_averaged_network(run):
    """Incident: five were kept with tensors under other names, and nothing could be started from them."""
    with safe_open(run / json.loads((run / "state.json").read_text())["file"], "numpy") as file:
        assert {name.partition(".")[0] for name in file.keys()} == {"average"}  # noqa: SIM118 (it is no dict)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_kept_run_names_its_data_from_the_root_of_the_project(run):
    """Incident: with the folders of another machine the same rollouts would count as held-out."""
    state = json.loads((run / "state.json").read_text())
    assert [folder for folder in state.get("trained_on", []) if Path(folder).is_absolute()] == []


def test_no_file_says_where_it_was_exported():
    """Incident: each node of a graph had a stack trace with folders of the machine."""
    files = [file for file in MODELS.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [file.name for file in files if b"/src/vla_mbpo/" in file.read_bytes()] == []

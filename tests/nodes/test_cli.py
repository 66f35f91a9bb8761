import json
import os
import subprocess
import sys

import pytest

from vla_mbpo import cli
from vla_mbpo.doctor import CHECKS, CheckError
from vla_mbpo.processes import lock_domain


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["juggle"], ["up", "--juggle"], ["up", "--k", "x"]])
def test_wrong_usage_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vla-mbpo: error: ")


def test_a_configuration_error_is_one_line(capsys):
    assert cli.main(["up", "--robot", "nothing"]) == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vla-mbpo: error: robot: 'nothing' is not valid; choose one of: ")


def test_a_missing_module_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "train", ("vla_mbpo.no_such_module", ""))
    assert cli.main(["train"]) == 64
    assert "pip install -e '.[train]'" in capsys.readouterr().err


def test_commands_are_imported_only_when_asked_for():
    code = "import sys, vla_mbpo.cli, vla_mbpo.up; print([m for m in ('torch', 'rclpy', 'mujoco') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def doctor(*options):
    command = [sys.executable, "-m", "vla_mbpo.cli", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_doctor_prints_one_table():
    done = doctor()
    for check in CHECKS:
        assert f" {check} " in done.stdout
    assert "FAILED" not in done.stdout and done.returncode == 0, done.stdout


def test_doctor_prints_json_and_names_a_taken_domain():
    with lock_domain(os.environ["ROS_DOMAIN_ID"]):
        report = json.loads(doctor("--json").stdout)
    assert report["ok"] and set(report["checks"]) == set(CHECKS)
    assert report["checks"]["domain"]["status"] == "advice"
    assert "needs another ROS_DOMAIN_ID" in report["checks"]["domain"]["text"]


def test_what_fails_says_what_to_do_and_fails_the_command(monkeypatch, capsys):
    def broken():
        raise CheckError("no such thing; run `make setup`")

    monkeypatch.setattr("vla_mbpo.doctor.CHECKS", {"thing": broken})
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report == {"ok": False, "checks": {"thing": {"status": "failed", "text": "no such thing; run `make setup`"}}}

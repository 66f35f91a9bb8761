"""policy.yaml is read strictly, and the bundle that is made of it is a policy's for all who read bundles."""

import re

import numpy as np
import pytest
import yaml
from foreign_server import DESCRIPTION, changed, describe

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.doctor import CHECKS
from vla_mbpo.failure.detector import FailureDetector
from vla_mbpo.failure.scores import Look
from vla_mbpo.paths import robot_dir, share_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.foreign.command import wrap
from vla_mbpo.policy.foreign.reading import read_description
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.policy.sessions import open_policy
from vla_mbpo.policy.vocabulary import UnknownInstruction
from vla_mbpo.releases.release import assemble, part

URL = "ws://127.0.0.1:9"
GOOD = changed(DESCRIPTION, server__url=URL)


def test_wrap_makes_a_bundle_of_kind_policy(tmp_path, spec, capsys):
    folder = describe(tmp_path / "served", GOOD)
    assert main(["wrap", str(folder)]) == 0
    bundle = Bundle.load(folder)
    assert (bundle.manifest["kind"], bundle.adapter) == ("policy", "openpi") and set(bundle.manifest["files"]) == {
        "policy.yaml"
    }
    out = capsys.readouterr().out
    assert f"--bundle {folder}" in out and "cannot be trained on" not in out


def test_wrap_says_that_attempts_with_short_answers_teach_nothing(tmp_path, capsys):
    """Incident (review): a day of recordings would have been passed over, one by one."""
    folder = describe(tmp_path / "served", changed(DESCRIPTION, server__url=URL, actions__rows=10))
    assert main(["wrap", str(folder)]) == 0
    assert "10 rows, not 16 as sim_panda has: recordings of it cannot be trained on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"adapter": "grpc"}, "adapter: 'grpc' is not valid; one of openpi, onnx"),
        ({"robot": "other"}, "robot"),
        ({"colour": 1}, "colour"),
        ({"image_size": 4}, "image_size: 4 is not valid; expected an integer from 16 to 2048"),
        ({"image_size": True}, "image_size"),
        ({"server__url": "http://127.0.0.1"}, "ws://HOST:PORT"),
        ({"server__url": "ws://192.168.1.7:8000"}, "remote: true"),
        ({"server__url": "ws://gpu.lab:8000"}, "remote: true"),
        ({"server__url": "ws://me:secret@127.0.0.1"}, "api_key_env"),
        ({"server__api_key_env": "VLA_MBPO_NO_SUCH_VARIABLE"}, "VLA_MBPO_NO_SUCH_VARIABLE"),
        ({"server__answer_within": 30.0}, "expected a number from 0.02 to 5"),
        ({"server__answer_within": float("nan")}, "expected a number from 0.02 to 5"),
        ({"server__candidates": 0}, "candidates"),
        ({"server__answerwithin": 0.1}, "answerwithin"),
        ({"observation__images": {"a": {"view": "left", "size": 96}}}, "one of head, wrist"),
        ({"observation__images": {"a": {"view": "head", "size": 96, "mean": [0.5] * 3}}}, "float32"),
        ({"observation__state": {"a": ["joints", "torques"]}}, "velocities"),
        ({"observation__state": {"a": {"parts": ["joints"], "mean": [0.0] * 6}}}, "one number, or 7"),
        ({"observation__instruction": ""}, "instructions"),
        ({"actions__type": "joint_torque"}, "joint_position"),
        ({"actions__columns": 6}, "columns"),
        ({"actions__motion": [0, 1, 2, 3, 4, 5, 5]}, "7 different columns"),
        ({"actions__motion": [0, 1, 2, 3, 4, 5, 8]}, "7 different columns"),
        ({"actions__gripper__column": 6}, "no column of the arm's motion"),
        ({"actions__gripper__open": 1.0}, "another value than closed"),
        ({"actions__rows": 3}, "0.2 s"),
        ({"actions__row_period": 0.0}, "row_period"),
        ({"actions__scale": [1.0, 2.0]}, "(16, 8)"),
        ({"actions__offset": [float("inf")] * 8}, "finite"),
        ({"onnx": {"encoder": "a.onnx"}}, "onnx"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_is_refused_by_field(tmp_path, spec, changes, words):
    folder = describe(tmp_path / "bad", changed(GOOD, **changes))
    with pytest.raises(ConfigError) as caught:
        open_policy(wrap(folder, spec), spec)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_another_host_needs_a_word_in_the_description(tmp_path, spec):
    folder = describe(tmp_path / "far", changed(GOOD, server__url="wss://gpu.lab", server__remote=True))
    assert read_description(folder, spec).server.url == "wss://gpu.lab"


def test_the_key_of_a_server_is_in_the_environment_and_not_in_what_is_printed(tmp_path, spec, monkeypatch):
    monkeypatch.setenv("LAB_KEY", "hush")
    server = read_description(describe(tmp_path / "keyed", changed(GOOD, server__api_key_env="LAB_KEY")), spec).server
    assert server.headers == {"Authorization": "Api-Key hush"} and "hush" not in repr(server)


def test_a_changed_description_is_no_longer_the_bundle(tmp_path, spec):
    bundle = wrap(describe(tmp_path / "served", GOOD), spec)
    file = bundle.path / "policy.yaml"
    file.write_text(file.read_text().replace(":9", ":10"))
    with pytest.raises(ConfigError, match=r"policy\.yaml.*sha256"):
        Bundle.load(bundle.path)


def test_instructions_of_the_description_are_the_only_ones(tmp_path, spec):
    listed = wrap(describe(tmp_path / "listed", changed(GOOD, instructions=["press the button"])), spec)
    listed.instructions.check("press the button")
    with pytest.raises(UnknownInstruction, match="known: press the button"):
        listed.instructions.check("press it")
    free = wrap(describe(tmp_path / "free", GOOD), spec).instructions
    free.check("whatever the model was trained on")
    for text in ("", "x" * 201):
        with pytest.raises(UnknownInstruction):
            free.check(text)


def test_our_own_runtime_and_training_refuse_it_by_name(tmp_path, spec):
    bundle = wrap(describe(tmp_path / "served", GOOD), spec)
    with pytest.raises(ConfigError, match="served, run by openpi"):
        PolicySession.load(bundle.path)


def test_it_can_be_the_policy_of_a_release(tmp_path, spec):
    bundle = wrap(describe(tmp_path / "served", GOOD), spec)
    release = assemble(tmp_path / "release", bundle, {"reason": "test"})
    assert part(release.path, "policy").version == bundle.version


def test_an_old_failure_detector_is_refused_for_it(tmp_path, spec, tiny_detector):
    version = wrap(describe(tmp_path / "served", GOOD), spec).version
    with pytest.raises(ConfigError, match=f"policy: '{version}'"):
        FailureDetector.load(str(tiny_detector), 0.1, version, str(tiny_detector.with_name("bands.json")))


def test_a_policy_without_features_is_unknown_to_a_failure_detector(tiny_detector):
    found = FailureDetector.load(str(tiny_detector), 0.1, "", str(tiny_detector.with_name("bands.json")))
    risk = found.add(Look(np.zeros(0, np.float32), np.zeros((1, 16, 8)), np.zeros(7), 0.0))
    assert not risk.known and "the policy gives no features" in risk.reason


def test_the_doctor_reads_its_description_and_asks_no_server(tmp_path, spec, monkeypatch):
    for place in ("config", "package.xml"):
        (tmp_path / place).symlink_to(share_dir() / place)
    version = wrap(describe(tmp_path / "models" / "served", GOOD), spec).version
    for module in ("vla_mbpo.paths", "vla_mbpo.doctor"):
        monkeypatch.setattr(f"{module}.share_dir", lambda: tmp_path)
    assert CHECKS["models"]() == version


def test_the_examples_of_the_guide_are_descriptions(tmp_path, spec):
    text = (share_dir() / "docs" / "foreign_policies.md").read_text()
    server, graphs = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    assert read_description(describe(tmp_path / "server", server), spec).actions.gripper == 7
    found = read_description(describe(tmp_path / "graphs", {**graphs, "actions": server["actions"]}), spec)
    assert found.graphs.carry == {"cache": "cache", "mask": "mask"} and found.instructions == ("press the button",)


def test_it_drives_the_robot_that_it_was_wrapped_for(tmp_path, spec):
    bundle = wrap(describe(tmp_path / "served", GOOD), spec)
    with pytest.raises(ConfigError, match="bundle served: robot: 'sim_panda' is not valid; the robot is franka_fr3"):
        open_policy(bundle, RobotSpec.load(robot_dir("franka_fr3")))

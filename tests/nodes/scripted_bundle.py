"""A policy bundle without training: two tiny ONNX graphs whose chunks turn the last joint at a constant speed.

"press the button" turns it forth, an instruction that begins with "open" back.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.policy.bundle import Bundle, write_manifest
from vla_mbpo.policy.vocabulary import Vocabulary
from vla_mbpo.releases.release import assemble
from vla_mbpo.sim.tasks import TASKS

SPEED = 0.2  # rad/s of the last joint
IMAGE = 96


def write_bundle(
    folder: Path, spec: RobotSpec, spoil: Callable[[np.ndarray], None] = lambda rows: None, **facts: object
) -> Path:
    """Write the bundle and return its folder; ``spoil`` may change the rows (horizon, action) in place.

    ``facts`` go into the manifest, too: with others it is another version.
    """
    folder.mkdir(parents=True)
    vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
    action, proprio = len(spec.joints) + 1, 2 * len(spec.joints) + 1
    rows = np.zeros((spec.horizon, action), np.float32)
    rows[:, -2] = SPEED * spec.row_period / 1e9 * np.arange(1, spec.horizon + 1)
    rows[:, -1] = spec.gripper_range[1]
    spoil(rows)
    _save(folder / "encoder.int8.onnx", _encoder(vocabulary.length, proprio))
    back = vocabulary.encode("open the drawer")[0]
    _save(folder / "step.int8.onnx", _step(rows, vocabulary.length, float(back)))
    manifest = {
        "name": "scripted",
        "kind": "policy",
        "robot": spec.name,
        "joints": list(spec.joints),
        "row_period": spec.row_period / 1e9,
        "gripper": {"range": list(spec.gripper_range), "speed": spec.gripper_speed},
        "policy": {"image_size": IMAGE, "horizon": spec.horizon, "action": action, "proprio": proprio},
        "vocabulary": {"words": list(vocabulary.words), "length": vocabulary.length},
        "normalisation": {
            "action_mean": np.zeros((spec.horizon, action)).tolist(),
            "action_std": np.ones((spec.horizon, action)).tolist(),
            "proprio_mean": [0.0] * proprio,
            "proprio_std": [1.0] * proprio,
        },
    }
    write_manifest(folder, manifest | facts)
    return folder


def write_release(folder: Path, spec: RobotSpec, **facts: object) -> Path:
    """A release of nothing but such a policy; returns its folder."""
    policy = write_bundle(folder.with_name(f"{folder.name}_policy"), spec, **facts)
    folder.mkdir()
    return assemble(folder, Bundle.load(policy), {"reason": "test"}).path


def _encoder(words: int, proprio: int) -> onnx.GraphProto:
    image = [1, IMAGE, IMAGE, 3]
    inputs = [
        helper.make_tensor_value_info("head", TensorProto.UINT8, image),
        helper.make_tensor_value_info("wrist", TensorProto.UINT8, image),
        helper.make_tensor_value_info("words", TensorProto.INT64, [1, words]),
        helper.make_tensor_value_info("proprio", TensorProto.FLOAT, [1, proprio]),
    ]
    widths = {"cache": words, "mask": proprio, "features": proprio}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name, width in widths.items()]
    nodes = [
        helper.make_node("Cast", ["words"], ["cache"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["proprio"], ["mask"]),
        helper.make_node("Identity", ["proprio"], ["features"]),
    ]
    return helper.make_graph(nodes, "encoder", inputs, outputs)


def _step(target: np.ndarray, words: int, back: float) -> onnx.GraphProto:
    """velocity = (target - rows) / (1 - time): Euler steps end exactly at the target."""
    horizon, action = target.shape
    inputs = [
        helper.make_tensor_value_info("cache", TensorProto.FLOAT, [1, words]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 2 * (target.shape[1] - 1) + 1]),
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["k", horizon, action]),
        helper.make_tensor_value_info("time", TensorProto.FLOAT, ["k", horizon]),
    ]
    outputs = [helper.make_tensor_value_info("velocity", TensorProto.FLOAT, ["k", horizon, action])]
    constants = [
        numpy_helper.from_array(target[None], "forth"),
        numpy_helper.from_array((target * ([-1.0] * (action - 1) + [1.0])).astype(np.float32)[None], "back"),
        numpy_helper.from_array(np.float32(back), "back_word"),
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.float32(1.00001), "one"),
        numpy_helper.from_array(np.array([2], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["cache", "first"], ["word"], axis=1),
        helper.make_node("Equal", ["word", "back_word"], ["is_back"]),
        helper.make_node("Where", ["is_back", "back", "forth"], ["target"]),
        helper.make_node("Sub", ["target", "rows"], ["way"]),
        helper.make_node("Sub", ["one", "time"], ["left"]),
        helper.make_node("Unsqueeze", ["left", "axis"], ["left3"]),
        helper.make_node("Div", ["way", "left3"], ["velocity"]),
    ]
    return helper.make_graph(nodes, "step", inputs, outputs, constants)


def _save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    onnx.save(model, str(path))

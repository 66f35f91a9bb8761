"""ONNX graphs of anybody's: an encoder/step pair, and one graph that writes actions at once."""

import shutil

import numpy as np
import pytest
from foreign_server import changed, describe

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.policy.foreign.command import wrap
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.runtime import PolicySession
from vla_mbpo.policy.sessions import open_policy

onnx = pytest.importorskip("onnx", reason="needs onnx: `make setup-dev`")

TEXT = "press the button"
NONE = np.zeros((0, 7))
SINGLE = {
    "name": "single",
    "adapter": "onnx",
    "image_size": 32,
    "instructions": [TEXT],
    "onnx": {"encoder": "act.onnx", "features": "features"},
    "observation": {
        "images": {"image": {"view": "head", "size": 16, "layout": "chw", "dtype": "float32", "mean": 0.5, "std": 0.5}},
        "state": {"qpos": ["joints"]},
    },
    "actions": {"rows": 16, "columns": 7, "row_period": 0.05, "type": "joint_position"},
}


def seen(spec, size=32, seed=0):
    pictures = np.random.default_rng(seed).integers(0, 255, (2, size, size, 3), dtype=np.uint8)
    return Observation(0, *pictures, spec.home.copy(), np.full(7, 0.01), 0.05)


def infer(session, observation, k=1, **options):
    return session.infer(observation, TEXT, NONE, NONE[:, 0], k, np.random.default_rng(3), **options)


def write_single(folder, add=0.0, rows=16):
    """actions = qpos + add, for every row; features = mean of the picture."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Add", ["qpos", "add"], ["moved"]),
        helper.make_node("Unsqueeze", ["moved", "axis"], ["row"]),
        helper.make_node("Expand", ["row", "shape"], ["actions"]),
        helper.make_node("ReduceMean", ["image"], ["features"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.float32(add), "add"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array([1, rows, 7], np.int64), "shape"),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, [1, 3, 16, 16]), value("qpos", TensorProto.FLOAT, [1, 7])]
    outputs = [value("actions", TensorProto.FLOAT, None), value("features", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "act", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, str(folder / "act.onnx"))


def single(tmp_path, spec, add=0.0, rows=16, **changes):
    folder = describe(tmp_path / "single", changed(SINGLE, **changes))
    write_single(folder, add, rows)
    return open_policy(wrap(folder, spec), spec)


def test_one_graph_gives_one_candidate_and_its_features(tmp_path, spec):
    session, observation = single(tmp_path, spec, add=0.01), seen(spec)
    found = infer(session, observation, k=8)
    np.testing.assert_allclose(found.positions, np.tile(spec.home + 0.01, (1, 16, 1)), atol=1e-6)
    np.testing.assert_array_equal(found.gripper, 0.05)
    expected = (observation.head.mean() / 255 - 0.5) / 0.5
    np.testing.assert_allclose(found.features, [expected], atol=0.01)  # of the smaller picture
    session.try_out(7, 16)


@pytest.mark.parametrize(
    "add, rows, reason", [(np.nan, 16, "not_finite"), (np.inf, 16, "not_finite"), (0.0, 9, "shape")]
)
def test_what_cannot_be_proposed_gives_no_chunk(tmp_path, spec, add, rows, reason):
    session = single(tmp_path, spec, add, rows)
    with pytest.raises(NoChunk) as caught:
        infer(session, seen(spec))
    assert caught.value.reason == reason
    with pytest.raises(ConfigError, match=reason):
        session.try_out(7, 16)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"onnx__encoder": "other.onnx"}, "without other.onnx"),
        ({"onnx__encoder": "policy.yaml"}, "ONNX"),
        ({"onnx__features": "pooled"}, "act.onnx: outputs"),
        ({"actions__key": "rows"}, "act.onnx: outputs"),
        ({"observation__state": {"state": ["joints"]}}, "act.onnx: inputs"),
        ({"instructions": []}, "instructions"),
        ({"onnx__step": "step.onnx"}, "onnx.noise"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_description_that_does_not_fit_the_graph_is_refused(tmp_path, spec, changes, words):
    with pytest.raises(ConfigError) as caught:
        single(tmp_path, spec, **changes)
    assert words in str(caught.value)


def test_a_graph_that_was_made_for_other_shapes_gives_no_chunk(tmp_path, spec):
    session = single(tmp_path, spec, observation__state={"qpos": ["joints", "velocities"]})
    with pytest.raises(NoChunk, match="shape"):
        infer(session, seen(spec))


def pair(folder, bundle, spec, **changes):
    """One of our own bundles, described as somebody else's."""
    manifest, words = bundle.bundle.manifest, bundle.vocabulary
    norm, size = manifest["normalisation"], bundle.image_size
    picture = {"view": "head", "size": size}
    description = {
        "name": "pair",
        "adapter": "onnx",
        "image_size": size,
        "onnx": {
            "encoder": "encoder.int8.onnx", "step": "step.int8.onnx", "carry": ["cache", "mask"], "noise": "rows",
            "time": "time", "velocity": "velocity", "steps": 5, "features": "features",
        },
        "observation": {
            "images": {"head": picture, "wrist": {**picture, "view": "wrist"}},
            "state": {"metres": ["joints", "velocities", "gripper"]},
            "instruction": {"input": "words", "known": {TEXT: words.encode(TEXT).tolist()}},
        },
        "actions": {
            "rows": bundle.horizon, "columns": 8, "row_period": manifest["row_period"], "type": "joint_delta",
            "scale": norm["action_std"], "offset": norm["action_mean"],
            "gripper": {"column": 7, "open": spec.gripper_range[1], "closed": spec.gripper_range[0]},
        },
    }  # fmt: skip
    state = {"parts": ["joints", "velocities", "gripper"], "mean": norm["proprio_mean"], "std": norm["proprio_std"]}
    description["observation"]["state"] = {"proprio": state}
    made = describe(folder, changed(description, **changes))
    for graph in ("encoder.int8.onnx", "step.int8.onnx"):
        shutil.copy(bundle.bundle.path / graph, made)
    return open_policy(wrap(made, spec), spec)


def test_our_own_pair_described_as_somebody_elses_gives_the_same_chunks(tmp_path, spec, tiny_bundle):
    ours = PolicySession.load(tiny_bundle)
    theirs, observation = pair(tmp_path / "pair", ours, spec), seen(spec, ours.image_size)
    one, other = infer(ours, observation, noise=1.5), infer(theirs, observation, noise=1.5)
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-3)
    np.testing.assert_allclose(other.gripper, one.gripper, atol=1e-3)
    np.testing.assert_allclose(other.features, one.features, atol=1e-3)
    several = infer(theirs, observation, k=3)
    assert several.positions.shape == (3, ours.horizon, 7) and np.ptp(several.positions, axis=0).max() > 1e-3
    with pytest.raises(ValueError, match="known: press the button"):
        theirs.infer(observation, "open the drawer", NONE, NONE[:, 0], 1, np.random.default_rng(0))


def test_the_flow_may_run_from_one_to_zero(tmp_path, spec, tiny_bundle):
    """As in openpi, where time 1 is noise: the steps go down, and the velocity points away from the data."""
    ours = PolicySession.load(tiny_bundle)
    down = pair(tmp_path / "down", ours, spec, onnx__begin=1.0, onnx__end=0.0, onnx__steps=1)
    up = pair(tmp_path / "up", ours, spec, onnx__steps=1)
    observation = seen(spec, ours.image_size)
    noise = np.random.default_rng(3).standard_normal((1, 16, 8), np.float32)
    std, mean = (np.array(ours.bundle.manifest["normalisation"][f"action_{name}"]) for name in ("std", "mean"))
    still = (noise * std + mean)[0, :, :7] + spec.home
    a, b = (infer(session, observation).positions[0] - still for session in (up, down))
    assert np.abs(a).max() > 1e-4 and np.abs(b).max() > 1e-4 and not np.allclose(a, b)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"onnx__carry": ["cache"]}, "step.int8.onnx: inputs"),
        ({"onnx__velocity": "v"}, "step.int8.onnx: outputs"),
        ({"onnx__carry": {"cache": "a", "mask": "b"}}, "encoder.int8.onnx: outputs"),
    ],
    ids=str,
)
def test_a_pair_that_does_not_fit_is_refused(tmp_path, spec, tiny_bundle, changes, words):
    with pytest.raises(ConfigError, match=words):
        pair(tmp_path / "pair", PolicySession.load(tiny_bundle), spec, **changes)

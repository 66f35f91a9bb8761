"""The mean of several policies: weights, how it came to be, and what cannot be averaged."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from safetensors.torch import save_file  # noqa: E402  (after the check that torch is there)

from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.policy.network import FlowPolicy, PolicyConfig  # noqa: E402
from vla_mbpo.training.soup import load_mean  # noqa: E402

FIRST, ONE, OTHER = {"sft": "first"}, {"dream_rl": 1}, {"dream_rl": 2}


@pytest.fixture
def runs(tmp_path):
    """Two run folders whose trainings began alike."""

    def made(name: str, seed: int, words: list[str], steps: list[dict]):
        torch.manual_seed(seed)
        config = PolicyConfig(words=2, text_length=4, image_size=32, width=32, layers=1, heads=2, keypoints=4)
        net = FlowPolicy(config)
        folder = tmp_path / name
        folder.mkdir()
        save_file({f"average.{key}": value for key, value in net.state_dict().items()}, folder / "w.safetensors")
        state = {"file": "w.safetensors", "policy": config.to_dict(), "words": words, "normalisation": {"a": [1.0]}}
        (folder / "state.json").write_text(json.dumps(state | {"rounds": steps, "history": []}))
        return folder, net.state_dict()

    return made


def test_the_mean_is_of_every_weight(runs):
    (one, a), (other, b) = runs("one", 1, ["a", "b"], [FIRST, ONE]), runs("other", 2, ["a", "b"], [FIRST, OTHER])
    mean = load_mean([one, other])[0].state_dict()
    assert any(not torch.equal(a[name], b[name]) for name in mean)
    for name, value in mean.items():
        torch.testing.assert_close(value, (a[name] + b[name]) / 2 if value.is_floating_point() else a[name])


def test_one_run_is_itself(runs):
    one, weights = runs("one", 1, ["a", "b"], [FIRST, ONE])
    net, facts = load_mean([one])
    assert not net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert facts["rounds"] == [FIRST, ONE]


def test_rounds_are_what_is_common_and_then_what_each_did(runs):
    (one, _), (other, _) = runs("one", 1, ["a", "b"], [FIRST, ONE]), runs("other", 2, ["a", "b"], [FIRST, OTHER, ONE])
    assert load_mean([one, other])[1]["rounds"] == [FIRST, {"mean_of": [[ONE], [OTHER, ONE]]}]


def test_policies_of_other_words_are_refused(runs):
    (one, _), (other, _) = runs("one", 1, ["a", "b"], [FIRST]), runs("other", 2, ["a", "c"], [FIRST])
    with pytest.raises(ConfigError, match="other: words: 'another one' is not valid; that of "):
        load_mean([one, other])

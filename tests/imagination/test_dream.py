"""Slow dreams: the head view first, then the wrist view given it; and the strip that shows them beside what was."""

import argparse

import numpy as np
import pytest
from PIL import Image

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.eval import dreams
from vla_mbpo.imagination.dream import dream
from vla_mbpo.imagination.session import WorldModelSession

WORDS = "press the button"


@pytest.fixture(scope="module")
def session(tiny_world_model, spec):
    return WorldModelSession.load(tiny_world_model, spec, pixels=True)


def seen(spec):
    head, wrist = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    return Observation(1_000_000_000, head, wrist, spec.home.copy(), np.zeros(7), 0.04)


def chunk(spec, speed=0.2):
    rows = np.tile(spec.home, (16, 1))
    rows[:, -1] += speed * 0.05 * np.arange(1, 17)
    return rows, np.full(16, 0.04)


def test_a_dream_has_pictures_and_probabilities_for_each_chunk(session, spec):
    found = dream(session, seen(spec), WORDS, [chunk(spec)] * 3, np.random.default_rng(0))
    assert found.head.shape == found.wrist.shape == (3, 32, 32, 3) and found.head.dtype == np.uint8
    assert found.joints.shape == (3, 7) and np.isfinite(found.joints).all()
    for values in (found.done, found.success, found.cost):
        assert values.shape == (3,) and (values >= 0).all() and (values <= 1).all()


def test_a_dream_is_the_same_for_the_same_noise(session, spec):
    one, same, other = (
        dream(session, seen(spec), WORDS, [chunk(spec)], np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.wrist, same.wrist)
    assert not np.array_equal(one.wrist, other.wrist)


def test_the_head_view_is_finished_before_the_wrist_view_begins(session, spec, monkeypatch):
    levels, step = [], session.step

    def noted(context, bins, noisy, time):
        levels.append(time[0].tolist())
        return step(context, bins, noisy, time)

    monkeypatch.setattr(session, "step", noted)
    dream(session, seen(spec), WORDS, [chunk(spec)], np.random.default_rng(0), flow_steps=2)
    assert levels == [[1.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.0, 0.5], [0.0, 0.0]]


@pytest.fixture
def episode(tmp_path, spec):
    rng, at = np.random.default_rng(2), np.arange(0, 64, 8, dtype=np.int32)
    m = len(at)
    file = tmp_path / "few_button_0.npz"
    np.savez(
        file, task="button", at=at, success_row=40, joints=np.tile(spec.home, (m, 1)), velocities=np.zeros((m, 7)),
        gripper=np.full(m, 0.04), set_point=np.tile(spec.home, (64, 1)), opening=np.full(64, 0.04),
        head=rng.integers(0, 256, (m, 32, 32, 3), dtype=np.uint8),
        wrist=rng.integers(0, 256, (m, 32, 32, 3), dtype=np.uint8),
    )  # fmt: skip
    return file


def arguments(*words):
    parser = argparse.ArgumentParser()
    dreams.add_arguments(parser)
    return parser.parse_args(words)


def test_the_strip_shows_what_was_above_what_was_imagined(episode, tiny_world_model, tmp_path, capsys):
    out = tmp_path / "strip.png"
    words = ("--episode", str(episode), "--world-model", str(tiny_world_model), "--out", str(out), "--chunks", "3")
    assert dreams.run(arguments(*words)) == 0
    picture = np.asarray(Image.open(out))
    assert picture.shape == (4 * 32 + 2 * dreams.LABEL, 4 * 32, 3)
    with np.load(episode) as real:
        np.testing.assert_array_equal(picture[dreams.LABEL : dreams.LABEL + 32, 32:64], real["head"][2])
    assert "row 48: done" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("--chunks", "0"), ("--flow-steps", "0"), ("--start", "7")])
def test_what_cannot_be_dreamt_is_refused_by_name(episode, tiny_world_model, words):
    with pytest.raises(ConfigError, match=words[0]):
        dreams.run(arguments("--episode", str(episode), "--world-model", str(tiny_world_model), *words))

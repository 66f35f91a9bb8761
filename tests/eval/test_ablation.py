"""With and without, on the same scenes."""

import argparse
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.eval.ablation import ablate, variants
from vla_mbpo.eval.lockstep import Outcome
from vla_mbpo.eval.statistics import paired, paired_ratio

COUNTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=5, max_size=30)


@given(COUNTS)
def test_the_difference_lies_in_its_interval_and_turns_with_the_sides(pairs):
    one, other = map(list, zip(*pairs, strict=True))
    mean, low, high = paired(one, other)
    assert low - 1e-3 <= mean <= high + 1e-3
    assert paired(other, one)[0] == pytest.approx(-mean, abs=1e-4)


@given(COUNTS)
def test_a_result_compared_with_itself_differs_by_nothing(pairs):
    one = [a + 1 for a, _ in pairs]  # never nothing
    assert paired(one, one) == (0.0, 0.0, 0.0)
    assert paired_ratio(one, one) == (1.0, 1.0, 1.0)


def test_pairing_makes_the_interval_narrower_than_two_separate_ones():
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5
    _, low, high = paired(hard, hard | (rng.random(200) < 0.05))
    assert high - low < 0.08


def test_what_is_evaluated():
    assert list(variants(["imagination", "k"], 8)) == ["k1", "k8", "k8_random", "k8_imagination"]
    assert variants(["k"], 4) == {"k1": {"k": 1, "imagination": "off"}, "k4": {"k": 4, "imagination": "off"}}
    assert next(iter(variants(["imagination"], 8))) == "k8"


def fake(tmp_path, successes):
    """An evaluation whose variants succeed on the given scenes; and the arguments for it."""
    calls = []

    def evaluate(args):
        calls.append((args.k, args.imagination))
        args.json.write_text("{}")
        partial(args).write_text("{}")
        mine = successes[args.imagination if args.k > 1 else "k1"]
        found = [Outcome("button", s, s in mine, cost_events=["drop"] * (s % 2)) for s in range(10)]
        return {"command": "c"}, [*found, Outcome("green_bin", 0, True)]

    def partial(args):
        return args.json.with_suffix(".partial")

    args = argparse.Namespace(
        ablate="imagination,k", k=8, imagination="off", robot="sim_panda", json=tmp_path / "x.json"
    )
    return args, evaluate, partial, calls


def test_the_comparison_is_written_and_leaves_nothing_else(tmp_path):
    successes = {"k1": {0}, "off": {0, 1}, "random": {0, 2}, "on": {0, 1, 2, 3, 4, 5}}
    args, evaluate, partial, calls = fake(tmp_path, successes)
    assert ablate(args, evaluate, partial) == 0
    assert calls == [(1, "off"), (8, "off"), (8, "random"), (8, "on")]
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    made = json.loads(args.json.read_text())
    row = made["comparison"]["k8_imagination"]
    assert made["base"] == "k1" and row["n"] == 10  # the held-out task does not count
    assert row["success_difference"][0] == pytest.approx(0.5)
    assert row["cost_ratio"] == [1.0, 1.0, 1.0]
    against_chance = made["comparison"]["k8_imagination against k8_random"]
    assert against_chance["success_difference"][0] == pytest.approx(0.4)


def test_a_ratio_to_nothing_is_none():
    assert paired_ratio([0, 0, 0], [0, 0, 0]) is None and paired_ratio([0, 0, 0], [1, 0, 0]) is None


def test_an_unknown_part_is_refused_by_name(tmp_path):
    args, evaluate, partial, _ = fake(tmp_path, {})
    args.ablate = "luck"
    with pytest.raises(ConfigError, match="--ablate.*luck"):
        ablate(args, evaluate, partial)

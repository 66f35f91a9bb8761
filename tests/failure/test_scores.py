import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.failure.learned import Bank
from vla_mbpo.failure.scores import Look, Overlap, Recent, Reversals, SetOverlap, Spread, Sum

SCALE = np.full(8, 0.1)


def look(chunks, row=0, features=None):
    chunks = np.asarray(chunks, float)
    return Look(np.zeros(4, np.float32) if features is None else features, chunks, np.zeros(7), row)


def straight(k=1, start=0.0, speed=0.01):
    return np.tile(start + speed * np.arange(16)[None, :, None], (k, 1, 8))


@pytest.mark.parametrize("kind", [Overlap, SetOverlap])
def test_a_policy_that_goes_on_with_its_plan_scores_nothing(kind):
    score = kind(SCALE)
    assert score.add(look(straight(2), row=0)) == 0.0
    assert score.add(look(straight(2, start=0.08), row=8)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", [Overlap, SetOverlap])
def test_a_changed_plan_scores_by_how_far_it_is_from_the_old_one(kind):
    near, far = kind(SCALE), kind(SCALE)
    near.add(look(straight(2)))
    far.add(look(straight(2)))
    a, b = near.add(look(straight(2, start=0.10), row=8)), far.add(look(straight(2, start=0.18), row=8))
    assert 0 < a < b


def test_the_overlap_is_measured_in_standard_deviations():
    score = Overlap(SCALE)
    score.add(look(straight()))
    assert score.add(look(straight(start=0.18), row=8)) == pytest.approx(1.0)


@pytest.mark.parametrize("row", [0, 16, 99])
def test_chunks_that_do_not_overlap_score_nothing(row):
    score = Overlap(SCALE)
    score.add(look(straight()))
    assert score.add(look(straight(start=9.0), row=row)) == 0.0


def test_a_new_attempt_does_not_overlap_with_the_last_one():
    score = Recent(Overlap(SCALE))
    score.add(look(straight()))
    score.reset()
    assert score.add(look(straight(start=9.0), row=8)) == 0.0


def test_reversals_are_the_share_of_turns():
    rows = np.zeros((1, 16, 8))
    rows[0, :, 0] = 0.01 * (np.arange(16) % 2)
    assert Reversals().add(look(rows)) == pytest.approx(1 / 7)
    assert Reversals().add(look(straight())) == 0.0


def test_candidates_that_agree_have_no_spread():
    assert Spread(SCALE).add(look(straight(8))) == pytest.approx(0.0, abs=1e-12)


def test_a_sum_is_the_same_where_every_second_look_is_missing():
    rows = np.zeros((1, 16, 8))
    rows[0, :, 0] = 0.01 * (np.arange(16) % 2)
    whole, half = Sum(Reversals()), Sum(Reversals())
    for at in range(0, 81, 8):
        total = whole.add(look(rows, row=at))
    for at in range(0, 81, 16):
        assert half.add(look(rows, row=at)) <= total + 1e-12
    assert half.add(look(rows, row=88)) == pytest.approx(whole.add(look(rows, row=88)))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_a_sum_is_of_all_looks_since_the_reset_and_what_is_recent_of_the_last_four(values):
    class Told:
        name = "told"

        def reset(self):
            self.left = list(values)

        def add(self, _):
            return self.left.pop(0)

    total, recent = Sum(Told()), Recent(Told())
    for score in (total, recent):
        score.reset()
    sums, means = ([score.add(look(straight(), row=8 * i)) for i in range(len(values))] for score in (total, recent))
    np.testing.assert_allclose(sums, np.cumsum(values), atol=1e-9)
    np.testing.assert_allclose(
        means, [np.mean(values[max(0, i - 4) : i]) for i in range(1, len(values) + 1)], atol=1e-9
    )


@pytest.mark.parametrize("cosine", [False, True])
def test_the_distance_to_the_bank_is_that_of_its_nearest_looks(cosine):
    rng = np.random.default_rng(0)
    size = 4 + 16 * 8
    stored = rng.normal(size=(200, size)).astype(np.float16)
    bank = Bank(stored, np.zeros(size, np.float32), np.ones(size, np.float32), nearest=3)
    x = look(rng.normal(size=(1, 16, 8)), features=rng.normal(size=4).astype(np.float32))
    v, kept = Bank.vector(x).astype(float), stored.astype(float)
    if cosine:
        apart = 1 - kept @ v / np.linalg.norm(kept, axis=1) / np.linalg.norm(v)
    else:
        apart = np.linalg.norm(kept - v, axis=1)
    assert bank.distance(x, cosine) == pytest.approx(np.sort(apart)[:3].mean(), rel=1e-4)


def test_a_stored_look_is_near_itself():
    rng = np.random.default_rng(0)
    x = look(rng.normal(size=(1, 16, 8)), features=rng.normal(size=4).astype(np.float32))
    size = 4 + 16 * 8
    bank = Bank(
        np.tile(Bank.vector(x), (9, 1)).astype(np.float16), np.zeros(size, np.float32), np.ones(size, np.float32)
    )
    assert bank.distance(x, cosine=False) < 0.02 and bank.distance(x, cosine=True) < 1e-3

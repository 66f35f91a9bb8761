"""Advantage-conditioned learning: labels, the condition, what it makes of a policy, and what of it is exported."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

import numpy as np  # noqa: E402  (after the check that torch is there)
from toy_world import H, N, Toy  # noqa: E402

from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.training import logged  # noqa: E402
from vla_mbpo.training.marks import Marks  # noqa: E402
from vla_mbpo.training.recap import BETTER, UNSAID, WORSE  # noqa: E402
from vla_mbpo.training.sft import load_policy  # noqa: E402


@pytest.fixture
def make(toy_run):
    return lambda updates=8, **options: toy_run(updates, **{"updates": 8, "batch": 48, "method": "recap"} | options)


def level(trainer, condition, net=None):
    """Mean distance of chunks from the best ones, plainly sampled under a condition."""
    torch.manual_seed(0)
    states, net = trainer.log.states.at(torch.arange(N).repeat(8)), net or trainer.net
    cache, mask, _ = trainer.collector.prefix(net, states, ())
    said = trainer.recap.told(torch.full((len(states),), condition))
    noise = torch.where(states.free[..., None] > 0, torch.randn(states.prefix.shape), states.prefix)

    def velocity(rows, time):
        return net.velocity(cache, mask, rows, time, said)

    with torch.no_grad():
        made = trainer.flow.integrate(velocity, noise, states.free)
    return trainer.collector.world.judge(states, made).to_go.mean().item()


def test_the_condition_changes_nothing_at_first(make):
    trainer = make()
    assert level(trainer, BETTER) == level(trainer, UNSAID) == level(trainer, WORSE)


def test_the_better_action_is_preferred_and_the_condition_tells_it(make):
    trainer = make(60)
    before = level(trainer, BETTER)
    trainer.run()
    better, unsaid, worse = (level(trainer, condition) for condition in (BETTER, UNSAID, WORSE))
    assert better < unsaid < worse and better < 0.8 * before, (before, better, unsaid, worse)


def test_the_best_of_a_task_are_the_better_ones(make):
    trainer = make(positive=0.25)
    pool = trainer.recap.pool
    assert len(pool) == N * 9 and abs(float(pool.good.float().mean()) - 0.25) < 0.02
    away = trainer.collector.world.judge(trainer.log.states.at(pool.look), pool.chunks).to_go.mean(0)
    means = torch.stack([away[(pool.look == look)][1:].mean() for look in range(N)])  # the first is the executed one
    gained = means[pool.look] - away
    assert gained[pool.good].min() > gained[~pool.good].max()


def test_what_the_gate_would_refuse_is_never_better(make, monkeypatch):
    monkeypatch.setattr(Toy, "unfit", True)
    trainer = make()
    pool = trainer.recap.pool
    assert not (pool.good & (pool.chunks.mean((1, 2)) > 0)).any() and pool.good.any()


def test_corrections_are_better_and_what_led_to_a_takeover_is_not(make, monkeypatch):
    none, plan = Marks.none(N, H, 8), np.zeros((2, H, 8), np.float32)
    corrected, leading = none.corrected.copy(), none.leading.copy()
    corrected[3], leading[5, :4] = True, True
    marks = Marks(corrected, leading, none.own & ~corrected, np.array([7, 7]), plan)
    monkeypatch.setattr(logged, "_marks", lambda *_: marks)
    pool = make().recap.pool
    tried, theirs = N * 9 - 1, 1  # that of look 3 is a person's
    assert len(pool) == tried + theirs + 1 + 2
    assert pool.good[tried:].tolist() == [True, False, False, False] and pool.look[tried:].tolist() == [3, 5, 7, 7]
    assert pool.rows[tried + 1].sum() == 4


def test_what_comes_out_is_a_policy_as_any_other(make):
    trainer = make(8)
    trainer.run()
    net = load_policy(trainer.out)
    assert set(net.state_dict()) == set(trainer.start.state_dict())
    assert not trainer.net.leave.weight.equal(trainer.start.leave.weight)
    net.load_state_dict(trainer.net.state_dict())
    states = trainer.log.states
    noise = torch.where(states.free[..., None] > 0, torch.randn(states.prefix.shape), states.prefix)
    cache, mask, _ = trainer.collector.prefix(net, states, ())
    plain, better, worse = (
        net.velocity(cache, mask, noise, states.free, said)
        for said in (None, *(trainer.recap.told(torch.full((N,), condition)) for condition in (BETTER, WORSE)))
    )
    assert torch.equal(plain, better) and not torch.equal(plain, worse)


def test_a_run_goes_on_where_it_was_cut_off(make):
    first, there, on = make(8), make(8), make(12)
    first.run()
    there.run(resume=True)
    assert first.recap.said.any() and torch.equal(there.recap.said, first.recap.said)
    on.run(resume=True)
    assert on.step == 12 and not torch.equal(on.recap.said, first.recap.said)
    assert torch.equal(on.recap.pool.good, first.recap.pool.good)


@pytest.mark.parametrize("options", [{"method": "other"}, {"positive": 0.0}, {"dropped": 2.0}, {"before": -1.0}])
def test_what_makes_no_sense_is_refused(make, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(**options)


def test_ppo_has_nothing_of_it(make):
    trainer = make(method="ppo")
    assert trainer.recap is None and "recap" not in trainer._loss(np.arange(4))

"""What people taught: corrections move the policy, undesirable chunks become less likely, silence changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")

from toy_world import H, N, Toy  # noqa: E402  (after the check that torch is there)

from vla_mbpo.training import logged, loop  # noqa: E402
from vla_mbpo.training.corrections import log_ratio  # noqa: E402
from vla_mbpo.training.marks import Marks  # noqa: E402
from vla_mbpo.training.matching import Noised  # noqa: E402
from vla_mbpo.training.pool import MOST, Pool  # noqa: E402

PERSONS, LOOKS, LATE = 0.8, [5, 9], 12  # what the person did, where, and its rows


@pytest.fixture
def make(toy_run):
    plain = {"group": 4, "batch": 16, "policy_weight": 0.0, "cloning": 0.0}
    return lambda updates=30, **options: toy_run(updates, **plain | options)


@pytest.fixture
def said(monkeypatch):
    """Marks of the toy's log: what a person steered, and what was refused, with the value of all its numbers."""

    def marks(steered=(), refused=(), value=1.5):
        none = Marks.none(N, H, 8)
        corrected, plan = none.corrected.copy(), np.full((len(refused), H, 8), 0.05 * value, np.float32)
        corrected[list(steered), :LATE] = True
        plan[..., -1] += 0.04  # as the tiny bundle standardises
        made = Marks(corrected, none.leading, none.own & ~corrected, np.array(refused, np.int64), plan)
        monkeypatch.setattr(logged, "_marks", lambda *_: made)

    plain = Toy.standardised

    def standardised(self, data, index):
        made = plain(self, data, index)
        made[LOOKS, :LATE] = PERSONS
        return made

    monkeypatch.setattr(Toy, "standardised", standardised)
    return marks


def sampled(trainer, net):
    torch.manual_seed(0)
    states = trainer.log.states
    noise = torch.randn(states.prefix.shape)
    return trainer.flow.integrate(trainer.collector.velocity(net, states, ()), noise, torch.ones_like(states.free))


def test_corrections_move_the_policy_to_what_the_person_did(make, said):
    said(steered=LOOKS)
    trainer = make(40)
    trainer.run()
    before, after = (
        (sampled(trainer, net)[LOOKS, :LATE] - PERSONS).abs().mean() for net in (trainer.start, trainer.net)
    )
    assert after < 0.3 * before


def test_rows_after_the_person_let_go_are_not_cloned(make, said):
    said(steered=LOOKS)
    assert (make().anchors.people.corrected.rows.sum(1) == LATE).all()


def test_first_rows_of_a_person_stand_for_committed_ones_in_half_of_the_chunks(make, said):
    said(steered=LOOKS)
    trainer = make()
    batch = trainer.anchors.people.corrected.draw(trainer.log.states, 400)
    first = (batch.states.free == 0).sum(1)
    assert 0.35 < (first > 0).float().mean() < 0.55 and first.max() == MOST
    assert (batch.states.prefix == batch.chunks).all() and not (batch.rows * (batch.states.free == 0)).any()


def likelier(trainer, pool):
    """Mean logarithm of how much likelier chunks became, over noise."""
    torch.manual_seed(1)
    batch, found = pool.draw(trainer.log.states, 400), []
    noised = Noised.of(trainer.flow, batch.states, batch.chunks)
    with torch.no_grad():
        for net in (trainer.net, trainer.start):
            found.append(noised.off(net, *trainer.collector.prefix(net, batch.states, ())[:2]))
    return log_ratio(*found, batch.rows).mean()


def test_what_was_undesirable_becomes_less_likely_and_what_was_desirable_does_not(make, said):
    said(refused=[1, 2, 3, 6], value=1.0)
    trainer = make(25, preferred=5.0)
    trainer.run()
    (refused,) = trainer.anchors.people.undesired
    assert likelier(trainer, refused) < -1.0
    assert likelier(trainer, trainer.anchors.people._well) > 0.0


@pytest.mark.parametrize("options", [{"cloning": 0.5}, {"policy_weight": 1.0}])
def test_where_nobody_said_anything_nothing_changes(make, options):
    """Bit for bit, noise included."""
    nets = []
    for out, weights in (("off", {"corrected": 0.0, "preferred": 0.0}), ("on", {})):
        trainer = make(8, out=out, centred=0.0, **weights, **options)
        trainer.run()
        nets.append(trainer.net.state_dict())
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())


@pytest.mark.parametrize(
    ("weights", "names"),
    [({}, {"corrected", "preferred"}), ({"corrected": 0.0}, {"preferred"}), ({"preferred": 0.0}, {"corrected"}),
     ({"corrected": 0.0, "preferred": 0.0}, set())],
)  # fmt: skip
def test_each_has_its_weight(make, said, weights, names):
    said(steered=LOOKS, refused=[1])
    trainer = make(**weights)
    assert set(trainer.anchors.people.losses(trainer.net, 16)) == names


def test_the_preference_is_neutral_before_the_first_update(make, said):
    said(steered=LOOKS, refused=[1])
    trainer = make(preferred=1.0)
    assert trainer.anchors.people.losses(trainer.net, 16)["preferred"].item() == pytest.approx(0.5, abs=1e-3)


def test_a_run_with_corrections_goes_on_where_it_was_cut_off(make, said, monkeypatch):
    monkeypatch.setattr(loop, "REPORT", 10)
    said(steered=LOOKS, refused=[1])
    first, again = make(10), make(30)
    first.run()
    again.run(resume=True)
    assert again.step == 30 and again.history[0] == first.history[0]
    assert {"corrected", "preferred"} <= set(again.history[1])
    assert again.history[2]["corrected"] < first.history[0]["corrected"]


def test_kinds_of_undesirable_chunks_count_alike(make, said, monkeypatch):
    """Thousands of refused candidates do not drown a takeover."""
    said(refused=[1] * 50)
    people = make().anchors.people
    one = replace(people.undesired[0], look=torch.tensor([4]), groups=[torch.tensor([0])])
    people.undesired.append(one)
    drawn = []
    draw = Pool.draw
    monkeypatch.setattr(Pool, "draw", lambda pool, states, count: drawn.append(count) or draw(pool, states, count))
    people.losses(make(out="other").net, 16)
    assert drawn == [8, 2, 2]


def test_the_run_says_what_there_was(make, said):
    said(steered=LOOKS, refused=[1, 1, 2])
    facts = make().log.facts
    assert (facts["corrected"], facts["leading"], facts["refused"]) == (2, 0, 3)

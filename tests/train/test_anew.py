"""A student that is made anew: the weights of one that has learnt nothing, and all that it knows of the stream."""

from __future__ import annotations

import numpy as np

from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Trainer

SPEC = FeatureSpec(
    history=HistorySpec(length=3, actions=("view",)),
    id=IdSpec(capacity=20, hashed=2),
    item={"kind": Field("category", capacity=6, hashed=1), "title": Field("text", capacity=16)},
    context={"hour": Field("category", capacity=24, hashed=0, max_values=1)},
)
STUDENT = StudentSettings(dim=3, hidden=4, context_dim=2, average_lists=100)
ALL = LossSettings(soft_head=True, replay_lists=8, previous=0.5, previous_every=2)


def trainer() -> Trainer:
    return make_trainer(SPEC, STUDENT, ALL, seed=1, watch=WatchSettings())


def items() -> list[Item]:
    return [Item(f"i{n}", attributes={"kind": "ab"[n % 2], "title": f"word{n}"}) for n in range(10)]


def example(number: int) -> Example:
    random = np.random.default_rng(number)
    shown = random.permutation(10)[:4]
    asked = Impression(
        f"r{number}",
        10**12,
        history=(Event("i3", 10**11, "view"),),
        context={"hour": str(number % 5)},
        candidates=tuple(Candidate(f"i{i}") for i in shown),
    )
    scores = tuple(random.normal(size=4).tolist())
    return Example(Ranking(asked, "t", "1", "logit", scores, (True,) * 4), (1.0, 0.0, 0.0, 0.0), "closed")


def learn(made: Trainer, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        made.learn(made.encode([example(4 * step + place) for place in range(4)]))


def told(made: Trainer) -> None:
    """What a student knows without having learnt: items, and the values of the context."""
    made.apply_items(items())
    made.encode([example(number) for number in range(40)])


def test_its_weights_are_those_of_a_student_that_was_told_the_same_and_has_learnt_nothing() -> None:
    old, fresh, plain = trainer(), trainer(), trainer()
    told(old)
    told(plain)
    learn(old, 0, 6)
    fresh.restore(*old.state_anew(fresh))
    found, wanted = fresh.student.weights(heights(fresh)), plain.student.weights(heights(plain))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert all(not bool(sums.any()) for sums in fresh.student.sparse_state.values())
    for key, value in fresh.weights().items():  # what goes out is not the old average
        np.testing.assert_allclose(value, wanted[key], atol=1e-7)


def heights(made: Trainer) -> dict[str, int]:
    keys = made.vocabulary.keys
    return {key: made.vocabulary.size(key) if key in keys else len(t) for key, t in made.student.tables.items()}


def test_it_keeps_what_it_knows_and_the_old_student_stays_as_it_was() -> None:
    old, fresh = trainer(), trainer()
    told(old)
    learn(old, 0, 6)
    before = {key: value.copy() for key, value in old.weights().items()}
    fresh.restore(*old.state_anew(fresh))
    assert (fresh.step, list(fresh.catalogue.ids)) == (old.step, list(old.catalogue.ids))
    assert fresh.vocabulary.snapshot() == old.vocabulary.snapshot()
    assert fresh.watch is not None
    assert old.watch is not None
    assert fresh.watch.state() == old.watch.state()
    assert fresh.previous is not None
    assert fresh.previous.items == 0
    assert fresh.replay is not None
    assert old.replay is not None
    assert len(fresh.replay) == len(old.replay) > 0
    for key, value in old.weights().items():
        np.testing.assert_array_equal(before[key], value)


def test_it_learns_on_as_any_student_and_goes_through_a_checkpoint() -> None:
    old, fresh, third = trainer(), trainer(), trainer()
    told(old)
    learn(old, 0, 6)
    fresh.restore(*old.state_anew(fresh))
    third.restore(*fresh.state())
    for made in (fresh, third):
        learn(made, 6, 3)
    for key, value in fresh.weights().items():
        np.testing.assert_array_equal(value, third.weights()[key], err_msg=key)
    assert any(not np.array_equal(value, old.weights()[key]) for key, value in fresh.weights().items())

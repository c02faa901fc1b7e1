"""Whom a label competes with, by brute force; and that a sample is drawn alike."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from recdistill.config import LossSettings, StudentSettings
from recdistill.features import Catalogue, FeatureSpec, Lists, Requests, Vocabulary
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Example, Impression, Item, Origin, Ranking
from recdistill.train.rivals import Popular, Rivals, no_rivals
from recdistill.train.used import Places


def state(number: int) -> np.ndarray:
    return np.asarray(number * 0x9E6C63D0876A9A47 % 2**64, np.uint64)


def lists_of(slots_BL: np.ndarray) -> Lists:
    """Lists whose candidates were all taken, without histories."""
    batch, length = slots_BL.shape
    ones, numbers, nothing = np.ones((batch, length), bool), np.ones((batch, length), np.float32), np.zeros((batch, 0))
    requests = Requests(nothing.astype(np.int32), nothing, nothing, {}, np.zeros(batch, np.int32))
    known = np.ones(batch, bool)
    return Lists(requests, slots_BL, ones, numbers, ones, numbers, known, np.ones(batch, np.float32), None, known)


def test_no_rivals_by_brute_force() -> None:
    random = np.random.default_rng(2)
    live_N, history_BH = random.random(9) < 0.7, random.integers(-1, 9, (5, 4))
    positives = (np.array([0, 0, 3]), np.array([2, 5, history_BH[3].max()]))
    expected = {
        b * 9 + i
        for b in range(5)
        for i in range(9)
        if (not live_N[i] or i in history_BH[b]) and (b, i) not in set(zip(*positives, strict=True))
    }
    assert set(no_rivals(live_N, history_BH, positives).tolist()) == expected


def test_without_positives_all_of_the_history_is_hidden() -> None:
    nobody = np.zeros(0, np.int64)
    hidden = no_rivals(np.array([True, False, True]), np.array([[0, -1], [2, 0]]), (nobody, nobody))
    assert sorted(hidden.tolist()) == [0, 1, 3, 4, 5]


def test_each_live_item_is_drawn_as_often() -> None:
    live_N = np.arange(40) % 4 != 1
    counts, draws = np.zeros(40, int), 4000
    for number in range(draws):
        rivals = Rivals(live_N, state(number), full=0, sample=12)
        assert np.exp(rivals.log_q) == pytest.approx([12 / 30] * 12)
        assert (np.diff(rivals.slots) > 0).all()
        assert len(rivals.slots) == 12
        counts[rivals.slots] += 1
    assert counts[~live_N].sum() == 0
    expected, variance = draws * 0.4, draws * 0.4 * 0.6
    # Without replacement the counts of a draw sum to 12, which leaves 29 degrees of freedom; p = .001.
    assert ((counts[live_N] - expected) ** 2 / variance).sum() * 29 / 30 < 58.3


def test_a_sample_depends_on_its_state_alone() -> None:
    live_N = np.ones(1000, bool)
    first, again, other = (Rivals(live_N, state(n), full=999, sample=10).slots for n in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_who_is_looked_up() -> None:
    live_N = np.arange(10) != 4
    assert len(Rivals(live_N, state(1), full=9, sample=2).slots) == 9
    assert len(Rivals(live_N, state(1), full=8, sample=2).slots) == 2
    assert len(Rivals(live_N, state(1), full=8, sample=9).slots) == 9
    assert len(Rivals(live_N, state(1), full=None, sample=2).slots) == 0


def test_who_competes_by_brute_force() -> None:
    random = np.random.default_rng(4)
    count, batch, length = 25, 6, 5
    live_N = random.random(count) < 0.8
    rivals = Rivals(live_N, state(3), full=0, sample=12)
    slots_BL = np.stack([random.permutation(count)[:length] for _ in range(batch)]).astype(np.int32)
    where_BL = random.random((batch, length)) < 0.8
    slots_BL[~where_BL] = -1
    history_BH = random.integers(-1, count, (batch, 4)).astype(np.int32)
    history_BH[0, 0], history_BH[1, 0] = slots_BL[0, 0], slots_BL[1, 1]
    positive_BL = where_BL & (random.random((batch, length)) < 0.3)
    numbers, nothing = np.zeros((batch, length), np.float32), np.zeros((batch, 4), np.int32)
    requests = Requests(history_BH, nothing, nothing, {}, np.zeros(batch, np.int32))
    known = np.ones(batch, bool)
    lists = Lists(
        requests, slots_BL, where_BL, numbers, where_BL, numbers, known, np.ones(batch, np.float32), None, known | True
    )
    used_U, place_N = Places().of(count, [slots_BL, history_BH, rivals.slots])
    listed_BL, others_BS = rivals.competing(lists, positive_BL, used_U, place_N)
    for b in range(batch):
        rivals_of_b = set(np.flatnonzero(live_N)) - set(history_BH[b])
        taken = {s for s, there in zip(slots_BL[b], positive_BL[b], strict=True) if there}
        shown = {s for s, there in zip(slots_BL[b], where_BL[b], strict=True) if there}
        assert set(slots_BL[b][listed_BL[b]]) == taken | (shown & rivals_of_b)
        assert set(rivals.slots[others_BS[b]]) == (set(rivals.slots) & rivals_of_b) - shown
    assert 0 < listed_BL.sum() < where_BL.sum()


def test_a_popular_item_is_drawn_more_often_and_counts_less() -> None:
    """The estimate of the normaliser is right on average: by many samples, against the sum over all live items."""
    random = np.random.default_rng(0)
    live_N, scores_N = np.arange(40) % 4 != 1, random.normal(size=40)
    popular, catalogue = Popular(0.75), Catalogue(FeatureSpec(), Vocabulary(FeatureSpec()))
    for slot, live in enumerate(live_N.tolist()):
        catalogue.apply(Item(str(slot), withdrawn=not live), admit=True)
    counts_N = random.integers(0, 50, 40).astype(float)
    popular.restore(catalogue, counts_N)
    chances_N = (1 + counts_N) ** 0.75
    found, drawn = [], np.zeros(40)
    for number in range(3000):
        rivals = Rivals(live_N, state(number), full=0, sample=12, draw=partial(popular.draw, catalogue))
        assert live_N[rivals.slots].all()
        assert len(np.unique(rivals.slots)) == len(rivals.slots)
        drawn[rivals.slots] += 1
        found.append(np.exp(scores_N[rivals.slots] - rivals.log_q).sum())
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - np.exp(scores_N[live_N]).sum()) < 4 * error
    assert np.corrcoef(drawn[live_N], chances_N[live_N])[0, 1] > 0.95


def test_what_is_drawn_follows_the_catalogue_and_the_counts_alone() -> None:
    """Items come, are withdrawn and come back: the draws are those of fresh counts of the same numbers."""
    random = np.random.default_rng(5)
    popular, catalogue = Popular(0.75), Catalogue(FeatureSpec(), Vocabulary(FeatureSpec()))
    for moment in range(60):
        for number in random.integers(0, 20 + 5 * moment, 20):
            catalogue.apply(Item(str(number), withdrawn=bool(random.random() < 0.2)), admit=True)
        if moment % 7 == 3:
            catalogue.release(random.choice([one for one in catalogue.ids if one]))
        slots_BL = random.integers(0, len(catalogue), (3, 2)).astype(np.int32)
        popular.count(catalogue, lists_of(slots_BL))
        fresh = Popular(0.75)
        fresh.restore(catalogue, popular.counts(catalogue))
        numbers_S = random.random(30)
        ours, theirs = popular.draw(catalogue, numbers_S), fresh.draw(catalogue, numbers_S)
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
        assert catalogue.live_N[ours[0]].all()


@pytest.mark.parametrize("sampled", [0, 5, 1000], ids=["sample", "sample of a catalogue", "whole catalogue"])
def test_labels_count_as_often_as_their_places_were_rare(sampled: int) -> None:
    """A batch of served lists, against the losses of its labels alone, each with its factor."""
    shown = {"a": 0.25, "b": 0.01, "c": 1.0, "d": None}  # factors 4, 10 (the cap), 1 and 1
    items = [f"i{n}" for n in range(12)]
    candidates = [Candidate(item, None, chance) for item, chance in zip(items, shown.values(), strict=False)]

    def example(labels: tuple[float, ...], origin: Origin) -> Example:
        asked = Impression("r", 0, candidates=tuple(candidates), origin=origin)
        return Example(Ranking(asked, "t", "1", "logit", (0.0,) * 4, (True,) * 4), labels, "labels")

    def loss(lists: list[Example], cap: float = 10.0) -> float:
        settings = LossSettings(soft=0.0, label=1.0, full_softmax_items=sampled, sampled_items=5, position_cap=cap)
        trainer = make_trainer(FeatureSpec(), StudentSettings(dim=4, dropout=0.0, id_dropout=0.0), settings, seed=2)
        trainer.apply_items([Item(item) for item in items])
        return trainer.learn(trainer.encode(lists))["loss"]

    first, second, third, fourth = (tuple(float(n == place) for n in range(4)) for place in range(4))
    alone = {labels: loss([example(labels, "product")]) for labels in (first, second, third, fourth)}
    both = [example(first, "served"), example(second, "served"), example(third, "served"), example(fourth, "served")]
    expected = (4 * alone[first] + 10 * alone[second] + alone[third] + alone[fourth]) / 4
    assert loss(both) == pytest.approx(expected, rel=1e-5)
    assert loss(both, cap=1.0) == pytest.approx(sum(alone.values()) / 4, rel=1e-5), "no correction"
    # Several labels of one list: the mean of their losses, each with its factor. Y is (2, 1): 2 · 4 and 1 · 10 of 3.
    several = loss([example((2.0, 1.0, 0.0, 0.0), "served")])
    each = [loss([example(one, "product")]) for one in (first, second)]
    assert several == pytest.approx((8 * each[0] + 10 * each[1]) / 3, rel=1e-5)
    silent = example((0.0,) * 4, "served")
    assert loss([example(first, "served"), silent]) == pytest.approx(4 * alone[first] / 2, rel=1e-5)

"""The simulated world: its records are sound, and its truth is true of what happened in it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from typing import Literal

import msgspec
import numpy as np
import pytest

from recdistill.data import Dataset
from recdistill.data.simulated import simulator
from recdistill.data.simulated.simulator import SimulatorSettings, simulate
from recdistill.data.simulated.truth import Truth
from recdistill.data.simulated.world import DAY_US
from recdistill.errors import ConfigError
from recdistill.records import Impression, encode

SMALL = SimulatorSettings(items=300, users=250, impressions=2500, days=60, shortest=20, longest=40)


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, Truth]:
    return simulate(SMALL, seed=7)


@pytest.fixture(scope="module")
def clicked(world: tuple[Dataset, Truth]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in world[0].feedback:
        found[one.impression_id].add(one.item)
    return found


@pytest.mark.slow
def test_equal_seeds_give_equal_worlds(world: tuple[Dataset, Truth]) -> None:
    again, truth = simulate(SMALL, seed=7)
    assert list(again.timeline()) == list(world[0].timeline())
    np.testing.assert_array_equal(truth.utilities("sim-000042"), world[1].utilities("sim-000042"))
    other, _ = simulate(SMALL, seed=8)
    assert other.impressions[5] != again.impressions[5]


def test_a_past_that_is_made_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million items, no table of all users and items fits into memory."""
    few = msgspec.structs.replace(SMALL, items=100, users=60, impressions=300)
    whole, _ = simulate(few, seed=2)
    monkeypatch.setattr(simulator, "MOST", 700)
    parts, _ = simulate(few, seed=2)
    assert list(parts.timeline()) == list(whole.timeline())
    assert [one.stop - one.start for one in simulator.parts_of(60, 100)] == [7] * 9


def test_who_has_had_everything_is_shown_nothing() -> None:
    few = SimulatorSettings(items=80, users=20, impressions=1200, days=60, shortest=20, longest=40, views=4)
    data, _ = simulate(few, seed=0)
    impressions = [record for record in data.timeline() if isinstance(record, Impression)]
    assert any(not one.candidates for one in impressions)
    for one in impressions:
        encode(one)


@pytest.mark.slow
def test_records_are_valid_and_in_the_order_of_time(world: tuple[Dataset, Truth]) -> None:
    data, _ = world
    written = list(data.timeline())
    assert len(written) == len(data.items) + len(data.impressions) + len(data.feedback)
    for record in written:
        encode(record)
    times = [one.time_us for one in data.impressions]
    assert times == sorted(times)
    assert [one.time_us for one in data.items] == sorted(one.time_us for one in data.items)
    assert len({one.id for one in data.impressions}) == len(data.impressions)
    assert set(data.spec.context) == set(data.impressions[0].context)


def test_nothing_is_known_before_it_happens(world: tuple[Dataset, Truth]) -> None:
    """Histories are the clicks and views so far, oldest first; lists hold live items that the user has not had."""
    data, _ = world
    launch = {}
    gone = {}
    for item in data.items:
        (gone if item.withdrawn else launch)[item.id] = item.time_us
    assert len(gone) == 6
    assert min(gone[name] - launch[name] for name in gone) > 0
    clicks = {(one.impression_id, one.item): one.time_us for one in data.feedback}
    past: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for one in data.impressions:
        assert one.user is not None
        before = {(event.item, event.time_us) for event in one.history}
        assert len(one.history) <= 50
        assert all(event.time_us < one.time_us for event in one.history)
        items = {event.item for event in one.history} | set(one.exclude)
        assert len(items) == len(one.history) + len(one.exclude)  # nothing is had twice
        assert {item for item, _ in past[one.user]} <= items  # every earlier click
        assert {pair for pair in past[one.user] if pair[0] not in one.exclude} <= before
        for candidate in one.candidates:
            assert launch[candidate.item] <= one.time_us < gone.get(candidate.item, 1 << 62)
        assert items.isdisjoint(candidate.item for candidate in one.candidates)
        assert 20 <= len(one.candidates) <= 40
        past[one.user] += [
            (candidate.item, clicks[one.id, candidate.item])
            for candidate in one.candidates
            if (one.id, candidate.item) in clicks
        ]


def test_new_users_begin_without_a_past(world: tuple[Dataset, Truth]) -> None:
    first = {}
    for one in world[0].impressions:
        first.setdefault(one.user, one)
    empty = sum(not one.history for one in first.values()) / len(first)
    assert 0.15 < empty < 0.45  # new_users = .3
    assert all(one.time_us > world[0].impressions[0].time_us for one in first.values() if not one.history)


def test_feedback_comes_late_twice_and_out_of_order(world: tuple[Dataset, Truth]) -> None:
    data, _ = world
    asked = {one.id: one for one in data.impressions}
    counts = Counter(one.id for one in data.feedback)
    twice = sum(n == 2 for n in counts.values())
    assert max(counts.values()) == 2
    assert 0.002 < twice / len(counts) < 0.03
    times = [one.time_us for one in data.feedback]
    assert 0 < sum(b < a for a, b in pairwise(times)) < 0.05 * len(times)
    for one in data.feedback:
        assert 0 < one.time_us - asked[one.impression_id].time_us <= 20 * 60_000_000
        assert one.item in {candidate.item for candidate in asked[one.impression_id].candidates}


def test_clicks_follow_the_click_model_at_every_place(
    world: tuple[Dataset, Truth], clicked: dict[str, set[str]]
) -> None:
    """Clicks at place p are Bernoulli draws of (1 + p)^-0.7 · sigmoid(utility + offset): compared within 4.5 s.d."""
    data, truth = world
    got, mean, variance = np.zeros(40), np.zeros(40), np.zeros(40)
    for one in data.impressions:
        rows = [truth.row(candidate.item) for candidate in one.candidates]
        chance = 1 / (1 + np.exp(-(truth.utilities(one.id)[rows].astype(np.float64) + truth.offset)))
        chance *= (1.0 + np.arange(len(rows))) ** -0.7
        np.testing.assert_allclose(truth.attractions(one.id)[rows] * (1.0 + np.arange(len(rows))) ** -0.7, chance)
        got[: len(rows)] += [candidate.item in clicked[one.id] for candidate in one.candidates]
        mean[: len(rows)] += chance
        variance[: len(rows)] += chance * (1 - chance)
    assert (np.abs(got - mean) < 4.5 * np.sqrt(variance) + 1).all()
    assert abs(got.sum() - mean.sum()) < 4.5 * np.sqrt(variance.sum())
    assert got[0] > 2 * got[10]  # the bias is there to be seen


def test_shuffled_lists_are_in_random_order_and_say_so(world: tuple[Dataset, Truth]) -> None:
    shuffled, sorted_ = 0, 0
    places = []
    for one in world[0].impressions:
        scores = [candidate.logged_score for candidate in one.candidates]
        chances = {candidate.propensity for candidate in one.candidates}
        if chances == {None}:
            assert scores == sorted(scores, reverse=True)
            sorted_ += 1
        else:
            assert chances == {1 / len(scores)}
            places.append(int(np.argmax(scores)) / (len(scores) - 1))
            shuffled += 1
    assert abs(shuffled / (shuffled + sorted_) - 0.3) < 4.5 * np.sqrt(0.21 / 2500)
    assert abs(np.mean(places) - 0.5) < 4.5 * np.sqrt(1 / 12 / len(places))


def test_about_the_wished_share_of_lists_is_clicked(world: tuple[Dataset, Truth], clicked: dict[str, set[str]]) -> None:
    share = sum(bool(clicked[one.id]) for one in world[0].impressions) / len(world[0].impressions)
    assert 0.45 < share < 0.7


def _ndcg(order: list[str], wanted: set[str]) -> float:
    gain = sum(1 / np.log2(place + 2) for place, item in enumerate(order[:10]) if item in wanted)
    return float(gain / sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted)))))


@pytest.mark.slow
def test_the_order_of_truth_beats_any_other(world: tuple[Dataset, Truth], clicked: dict[str, set[str]]) -> None:
    data, truth = world
    lists = [one for one in data.impressions if clicked[one.id]]
    best = [_ndcg(top, clicked[one.id]) for one, top in zip(lists, truth.top(lists, 10), strict=True)]
    assert truth.best_possible(lists, clicked) == pytest.approx(np.mean(best))

    random = np.random.default_rng(0)
    popular = np.zeros(300)
    for items in clicked.values():
        popular[[truth.row(item) for item in items]] += 1  # of the whole log, future included
    others = {
        "popularity": lambda utility_N: popular,
        "attraction without the user": lambda utility_N: truth.catalogue.popularity_N,
        "the product's own noise": lambda utility_N: utility_N + random.standard_normal(300),
        "half as sure of popularity": lambda utility_N: utility_N - 0.5 * truth.catalogue.popularity_N,
    }
    for name, order in others.items():
        values = []
        for one in lists:
            scores_N = np.where(truth.allowed(one), order(truth.utilities(one.id)), -np.inf)
            top = [truth.item_ids[row] for row in np.argsort(-scores_N, kind="stable")[:10].tolist()]
            values.append(_ndcg(top, clicked[one.id]))
        difference = np.array(best) - np.array(values)
        assert difference.mean() > 3 * difference.std() / np.sqrt(len(lists)), name


def test_truth_never_ranks_what_is_gone_or_had(world: tuple[Dataset, Truth]) -> None:
    data, truth = world
    gone = {item.id: item.time_us for item in data.items if item.withdrawn}
    for one, top in zip(data.impressions[::50], truth.top(data.impressions[::50], 400), strict=True):
        had = {event.item for event in one.history} | set(one.exclude)
        live = {item.id for item in data.items if item.time_us <= one.time_us and not item.withdrawn}
        live -= {name for name, at in gone.items() if at <= one.time_us}
        assert set(top) == live - had


def test_attributes_say_what_an_item_is_like(world: tuple[Dataset, Truth]) -> None:
    """Topic, price and words of the title have to be worth learning: each goes with the latent item."""
    catalogue = world[1].catalogue
    assert np.corrcoef(np.log(catalogue.price_N), catalogue.latent_ND[:, 0])[0, 1] > 0.7
    words: dict[str, list[int]] = defaultdict(list)
    for row, title in enumerate(catalogue.titles):
        for word in title.split():
            words[word].append(row)
    unit = catalogue.latent_ND / np.linalg.norm(catalogue.latent_ND, axis=1, keepdims=True)
    likeness = unit @ unit.T
    shared = [likeness[a, b] for rows in words.values() for a in rows for b in rows if a != b]
    assert np.mean(shared) > likeness.mean() + 0.1


def test_part_of_the_settings_that_contradict_each_other() -> None:
    for settings, sentence in (
        (SimulatorSettings(shortest=60, longest=50), "shortest 60 is more than longest 50"),
        (SimulatorSettings(items=150), "need at least 200 items, not 150"),
        (SimulatorSettings(users=10, days=10), "more than one a day"),
        (SimulatorSettings(items=-1), "items"),
        (SimulatorSettings(click_rate=2.0), "click_rate"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            simulate(settings)


@pytest.mark.slow
def test_the_default_world_takes_seconds() -> None:
    start = time.process_time()
    data, _ = simulate()
    assert time.process_time() - start < 40  # about 10 on one idle core
    assert [len(part) for part in data.parts()] == [24_000, 3_000, 3_000]


PLAIN = "d7cfad2444eb224f0e98aeced1a52e964e4e23b3a66ab0eb0116a6980842380d"
DEEP = msgspec.structs.replace(SMALL, kind="deep", shift=0.5, impressions=1500, narrow=0.3)


def test_the_plain_world_is_the_one_that_it_always_was() -> None:
    """The hash of a world as the version before the deep world made it."""
    data, _ = simulate(SimulatorSettings(items=60, users=20, impressions=40, days=20, shortest=10, longest=12), seed=1)
    digest = hashlib.sha256()
    for record in data.timeline():
        digest.update(encode(record))
    assert digest.hexdigest() == PLAIN


@pytest.mark.slow
def test_the_teacher_of_a_deep_world_knows_its_truth() -> None:
    data, truth = simulate(DEEP, seed=3)
    agreed, spreads = [], []
    for one in data.impressions:
        scores = np.array([candidate.logged_score for candidate in one.candidates], np.float64)
        known = truth.scores([one])[0]
        spreads.append(known.std())
        if spreads[-1] > 1:
            agreed.append(np.corrcoef(scores, known)[0, 1])
    assert np.mean(agreed) > 0.97
    narrow = np.array(spreads) < 0.5
    assert 0.25 < narrow.mean() < 0.35
    assert np.median(np.array(spreads)[~narrow]) > 5 * np.median(np.array(spreads)[narrow])


@pytest.mark.slow
def test_a_share_of_lists_is_labelled() -> None:
    for wanted in (0.02, 0.6):
        data, _ = simulate(msgspec.structs.replace(DEEP, click_rate=wanted), seed=3)
        labelled = len({one.impression_id for one in data.feedback}) / len(data.impressions)
        assert 0.5 * wanted < labelled < 1.5 * wanted


def test_what_a_deep_item_is_cannot_be_read_from_its_title_and_price() -> None:
    """A linear fit of the hidden vectors on words explains next to nothing; in a plain world it explains much."""

    def explained(kind: Literal["plain", "deep"]) -> float:
        data, truth = simulate(msgspec.structs.replace(SMALL, kind=kind, impressions=50, withdrawn=0.0), seed=2)
        items = {item.id: item for item in data.items}
        rows = [items[name] for name in truth.item_ids]
        words = sorted({word for item in rows for word in str(item.attributes["title"]).split()[:2]})
        seen = np.array([[word in str(item.attributes["title"]).split() for word in words] for item in rows], float)
        own = truth.catalogue.latent_ND - np.stack(
            [
                truth.catalogue.latent_ND[truth.catalogue.topic_N == topic].mean(0)
                for topic in truth.catalogue.topic_N.tolist()
            ]
        )
        half = len(rows) // 2
        solved = np.linalg.solve(seen[:half].T @ seen[:half] + 3 * np.eye(len(words)), seen[:half].T @ own[:half])
        left = own[half:] - seen[half:] @ solved
        return float(1 - (left**2).sum() / (own[half:] ** 2).sum())

    assert explained("plain") > 0.2
    assert explained("deep") < 0.05


@pytest.mark.slow
def test_all_tastes_turn_at_the_planted_moment() -> None:
    """Until then, users with the same newest item want the same; from then on, those with the same item before it."""
    data, truth = simulate(msgspec.structs.replace(DEEP, narrow=0.0, shift=0.5), seed=3)
    turns_us = data.impressions[0].time_us // DAY_US * DAY_US + DEEP.days // 2 * DAY_US

    def alike(place: int, *, turned: bool) -> float:
        by_item: dict[str, list[Impression]] = {}
        for one in data.impressions:
            if len(one.history) >= 2 and (one.time_us >= turns_us) == turned:
                by_item.setdefault(one.history[place].item, []).append(one)
        pairs = [pair for group in by_item.values() for pair in combinations(group, 2) if pair[0].user != pair[1].user]
        wishes = {one.id: truth.utilities(one.id) - truth.catalogue.popularity_N for pair in pairs for one in pair}
        assert len(pairs) > 1000
        return float(np.mean([np.corrcoef(wishes[one.id], wishes[other.id])[0, 1] for one, other in pairs]))

    assert alike(-1, turned=False) > 0.7
    assert alike(-2, turned=False) < 0.3
    assert alike(-1, turned=True) < 0.3
    assert alike(-2, turned=True) > 0.7

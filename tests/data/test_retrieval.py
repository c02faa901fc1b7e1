"""The candidate stage: what it offers, held against counts by hand, and that it sees nothing that is still to come."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from recdistill.data.retrieval import Mix, Retriever
from recdistill.errors import ConfigError

ITEMS = 200


def log(seed: int, events: int = 400, users: int = 12) -> list[tuple[int, int]]:
    random = np.random.default_rng(seed)
    had: dict[int, set[int]] = {}
    rows = []
    while len(rows) < events:
        user, item = int(random.integers(users)), int(ITEMS * random.random() ** 2)
        if item not in had.setdefault(user, set()):
            had[user].add(item)
            rows.append((user, item))
    return rows


def walk(rows: list[tuple[int, int]], mix: Mix, seed: int = 0) -> list[np.ndarray]:
    retriever = Retriever(ITEMS, mix, seed=seed)
    past: dict[int, list[int]] = {}
    lists = []
    for user, item in rows:
        had = np.array(past.setdefault(user, []), np.int64)
        lists.append(retriever.candidates(had, target=item))
        retriever.observe(item, had)
        past[user].append(item)
    return lists


def test_lists_hold_the_target_once_and_nothing_that_was_had() -> None:
    rows = log(0)
    past: dict[int, set[int]] = {}
    for (user, item), offered in zip(rows, walk(rows, Mix(length=40, popular=10, covisited=10)), strict=True):
        assert len(offered) == len(set(offered.tolist())) == 40
        assert item in offered
        assert past.setdefault(user, set()).isdisjoint(offered.tolist())
        past[user].add(item)


def test_the_future_changes_nothing() -> None:
    rows = log(1)
    other = rows[:200] + [(user, (item + 77) % ITEMS) for user, item in log(2)[:200]]
    mix = Mix(length=40, popular=10, covisited=10)
    for one, two in zip(walk(rows, mix)[:200], walk(other, mix)[:200], strict=True):
        np.testing.assert_array_equal(one, two)


def test_equal_seeds_give_equal_lists_and_others_do_not() -> None:
    rows, mix = log(3), Mix(length=40, popular=10, covisited=10)
    for one, two in zip(walk(rows, mix, seed=5), walk(rows, mix, seed=5), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(walk(rows, mix, 5), walk(rows, mix, 6), strict=True))


def test_popular_items_are_the_most_chosen_of_the_window() -> None:
    rows = log(4)
    mix = Mix(length=11, popular=10, covisited=0, window=100, refresh=1)
    past: dict[int, set[int]] = {}
    for place, ((user, item), offered) in enumerate(zip(rows, walk(rows, mix), strict=True)):
        had = past.setdefault(user, set())
        counts = Counter(one for _, one in rows[max(0, place - 100) : place])
        free = sorted((-n, one) for one, n in counts.items() if one not in had and one != item)
        assert {one for _, one in free[:10]} <= set(offered.tolist())
        had.add(item)


def test_covisited_items_are_the_nearest_by_counts_over_root_popularity() -> None:
    rows = log(5)
    mix = Mix(length=9, popular=0, covisited=8, last=3, reach=4, memory=10_000)
    past: dict[int, list[int]] = {}
    near = Counter()
    total: Counter[int] = Counter()
    checked = 0
    for (user, item), offered in zip(rows, walk(rows, mix), strict=True):
        had = past.setdefault(user, [])
        weight = {
            other: sum(near[one, other] for one in had[-3:]) / np.sqrt(total[other])
            for other in range(ITEMS)
            if other not in had and other != item and any(near[one, other] for one in had[-3:])
        }
        if len(weight) > 8:
            eighth = sorted(weight.values())[-8]
            chosen = [one for one in offered.tolist() if one != item]
            assert min(weight[one] for one in chosen) == pytest.approx(eighth)
            checked += 1
        for one in had[-4:]:
            near[one, item] += 1
            near[item, one] += 1
        had.append(item)
        total[item] += 1
    assert checked > 200


def test_the_rest_is_uniform_and_the_target_anywhere() -> None:
    retriever = Retriever(50, Mix(length=11, popular=0, covisited=0), seed=1)
    had = np.arange(10, dtype=np.int64)
    counts = np.zeros(50)
    places = np.zeros(11)
    draws = 4000
    for _ in range(draws):
        offered = retriever.candidates(had, target=49)
        counts[offered] += 1
        places[int(np.flatnonzero(offered == 49)[0])] += 1
    assert counts[:10].sum() == 0
    assert counts[49] == draws
    for got, share, of in ((counts[10:49], 10 / 39, 39), (places, 1 / 11, 11)):
        spread = np.sqrt(draws * share * (1 - share))
        assert np.abs(got - draws * share).max() < 4.5 * spread, of


def test_a_small_catalogue_is_offered_whole() -> None:
    retriever = Retriever(8, Mix(length=20, popular=4, covisited=4), seed=0)
    assert sorted(retriever.candidates(np.array([1, 2]), target=5).tolist()) == [0, 3, 4, 5, 6, 7]
    assert sorted(retriever.candidates(np.arange(8)).tolist()) == []


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        (Mix(length=10, popular=6, covisited=5), "popular 6 \\+ covisited 5 is more than length 10"),
        (Mix(length=0, popular=0, covisited=0), "length"),
        (Mix(popular=-1), "popular"),
    ],
)
def test_an_impossible_mix_is_refused(mix: Mix, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Retriever(10, mix)

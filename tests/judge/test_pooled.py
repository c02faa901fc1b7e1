"""The teacher on pools: places against the whole catalogue, the budget, and what is asked."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from recdistill import metrics
from recdistill.judge.pooled import DRAWN, make_pools, ndcg, places
from recdistill.records import Impression

ITEMS = [f"i{n}" for n in range(1000)]


def test_a_place_is_right_on_average_over_the_draws() -> None:
    """Horvitz and Thompson: the mean over many draws is the true place, whatever is in the pool for certain."""
    random = np.random.default_rng(0)
    scores = random.normal(size=1000)
    own, certain = scores[:1], scores[1:40]
    true = 1 + int((scores > own[0]).sum())
    found = [places(own, certain, random.choice(scores[40:], 96, replace=False), 96 / 960)[0] for _ in range(4000)]
    assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / np.sqrt(4000))


def pools(scores: int, count: int = 30) -> tuple[list[Impression], list[object]]:
    requests = [Impression(f"r{n}", n, user="u") for n in range(count)]
    relevant = [[f"i{n}", f"i{n + 1}"] for n in range(count)]
    tops = {"student": [[f"i{(n + k) % 1000}" for k in range(20)] for n in range(count)]}
    barred = [{f"i{n + 5}"} for n in range(count)]
    return requests, list(make_pools(requests, relevant, tops, ITEMS, barred, scores=scores, seed=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("scores", [0, 5, 30, 600, 3000, 100_000])
def test_the_budget_holds_and_the_newest_lists_come_first(scores: int) -> None:
    requests, made = pools(scores)
    assert sum(len(pool.request.candidates) for pool in made) <= scores  # type: ignore[attr-defined]
    assert [pool.request.id for pool in made] == [r.id for r in requests[len(requests) - len(made) :]]  # type: ignore[attr-defined]
    if scores == 100_000:
        assert len(made) == 30
    for pool in made:
        asked = [candidate.item for candidate in pool.request.candidates]  # type: ignore[attr-defined]
        n = int(pool.request.id[1:])  # type: ignore[attr-defined]
        assert len(set(asked)) == len(asked)
        assert asked[:2] == [f"i{n}", f"i{n + 1}"]
        assert f"i{n + 5}" not in asked
        assert pool.certain == 9  # the first ten without the one that is barred  # type: ignore[attr-defined]
        assert pool.chance == pytest.approx((len(asked) - 9) / (1000 - 9 - 1))  # type: ignore[attr-defined]
        assert len(asked) - 9 <= DRAWN


def test_with_the_whole_catalogue_in_the_pool_it_is_ndcg() -> None:
    random = np.random.default_rng(2)
    [pool] = make_pools([Impression("r", 1)], [["i7", "i3"]], {}, ITEMS[:20], [set()], scores=1000, seed=0)
    assert len(pool.request.candidates) == 20
    for _ in range(20):
        scores = random.normal(size=20)
        labels = np.zeros(20)
        labels[:2] = [1.0, 2.0]
        found = ndcg(pool, scores, np.array([1.0, 2.0]))
        assert found == pytest.approx(float(metrics.ndcg(scores, labels, k=10)))
    # One that was liked and is in no catalogue lowers what can be reached; a score that is missing comes last.
    scores = -np.arange(20.0)
    gained = 1.0 / np.log2(2) + 2.0 / np.log2(3)
    assert ndcg(pool, scores, np.array([1.0, 2.0, 3.0])) == pytest.approx(gained / (3.0 + 2.0 / np.log2(3) + 1.0 / 2.0))
    scores[0] = np.nan
    assert ndcg(pool, scores, np.array([1.0, 2.0])) == pytest.approx(2.0 / (2.0 + 1.0 / np.log2(3)))


def test_pools_keep_the_request() -> None:
    _, [first, *_] = pools(100_000)
    assert msgspec.structs.replace(first.request, candidates=()) == Impression("r0", 0, user="u")  # type: ignore[attr-defined]


def test_barred_items_that_are_in_no_catalogue_change_no_chance() -> None:
    """An item's chance to be drawn, counted over many seeds, is the chance that the pool tells."""
    gone = {f"gone{n}" for n in range(300)}
    barred, tops = {*gone, "i5", "i6"}, {"student": [["i1", "i5"]]}
    watched = {f"i{n}" for n in range(7, 507)}
    count, drawn = 300, 0
    for seed in range(count):
        [pool] = make_pools([Impression("r", 1)], [["i0"]], tops, ITEMS, [barred], scores=1000, seed=seed)
        drawn += sum(candidate.item in watched for candidate in pool.request.candidates)
    # By hand: of 1,000 items two are in the pool for certain and two are barred, so 200 of 996 are drawn.
    assert pool.chance == pytest.approx(200 / 996)
    assert drawn / (count * 500) == pytest.approx(pool.chance, abs=0.005)


def test_a_small_catalogue_is_drawn_whole_whatever_else_is_barred() -> None:
    barred = {*(f"gone{n}" for n in range(50)), "i3"}
    [pool] = make_pools([Impression("r", 1)], [["i0"]], {}, ITEMS[:20], [barred], scores=1000, seed=0)
    assert {candidate.item for candidate in pool.request.candidates} == {f"i{n}" for n in range(20)} - {"i3"}
    assert pool.chance == 1.0

"""Chance over the whole catalogue, against every order of a small one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recdistill.judge.whole import by_chance
from recdistill.metrics import average_precision, hit_rate, mrr, ndcg, recall


@pytest.mark.many
@pytest.mark.parametrize(
    ("items", "labels", "gone"),
    [
        (6, [1.0], []),
        (6, [2.0, 1.0], []),
        (5, [3.0, 1.0, 1.0], [1]),
        (7, [1.0, 1.0, 1.0, 1.0], []),
        (2, [1.0], [0]),
        (1, [1.0], []),
    ],
)
def test_chance_is_the_mean_over_all_orders(items, labels, gone):
    """Relevant items that are gone cannot be listed: they stand behind all places, as in a real answer."""
    there = [p for p in range(len(labels)) if p not in gone]
    values = []
    for order in itertools.permutations(range(items)):
        placed = np.zeros(items + 12 + len(labels))
        for n, p in enumerate(there):
            placed[order[n]] = labels[p]
        for n, p in enumerate(gone):
            placed[items + 12 + n] = labels[p]
        scores = -np.arange(len(placed), dtype=float)
        values.append([
            ndcg(scores, placed, k=10), recall(scores, placed, k=10), hit_rate(scores, placed, k=10),
            mrr(scores, placed, k=items), average_precision(scores, placed, k=10),
        ])  # fmt: skip
    live = np.array([[p not in gone for p in range(len(labels))] + [False]])
    found = by_chance(np.array([items]), np.array([[*labels, 0.0]]), live)
    assert list(found) == ["ndcg@10", "recall@10", "hit_rate@10", "mrr@100", "map@10"]
    np.testing.assert_allclose([of[0] for of in found.values()], np.mean(values, axis=0), atol=1e-12)


@pytest.mark.slow
def test_chance_in_a_large_catalogue_is_that_of_drawn_orders():
    random = np.random.default_rng(0)
    items, labels = 300, np.array([1.0, 2.0, 1.0, 1.0, 3.0])
    found = by_chance(np.array([items]), labels[None], np.ones((1, 5), bool))
    draws = 5_000
    places = np.argsort(random.random((draws, items)), axis=1)[:, :5]
    placed = np.zeros((draws, items))
    np.put_along_axis(placed, places, np.broadcast_to(labels, (draws, 5)), 1)
    scores = np.broadcast_to(-np.arange(items, dtype=float), placed.shape)
    drawn = [
        ndcg(scores, placed, k=10),
        recall(scores, placed, k=10),
        hit_rate(scores, placed, k=10),
        mrr(scores, placed, k=100),
        average_precision(scores, placed, k=10),
    ]
    for value, sample in zip(found.values(), drawn, strict=True):
        assert value[0] == pytest.approx(sample.mean(), abs=4 * sample.std() / np.sqrt(draws))

"""Metrics over ties, against the mean over every order of the ties, and against scikit-learn where there are none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from recdistill.judge import tied


def by_hand(order, labels, k):
    """NDCG@k, MIND's reciprocal rank and AUC of one order (places, best first), by plain loops."""
    dcg = sum(labels[place] / math.log2(rank + 2) for rank, place in enumerate(order[:k]))
    best = sum(label / math.log2(rank + 2) for rank, label in enumerate(sorted(labels, reverse=True)[:k]))
    ranks = [rank for rank, place in enumerate(order) if labels[place] > 0]
    others = [rank for rank, place in enumerate(order) if labels[place] <= 0]
    right = sum(a < b for a in ranks for b in others)
    return dcg / best, sum(1 / (rank + 1) for rank in ranks) / len(ranks), right / (len(ranks) * len(others))


def every_order(scores):
    """All orders that sort the scores, best first."""
    levels = sorted(set(scores), reverse=True)
    groups = [[place for place, score in enumerate(scores) if score == level] for level in levels]
    return [list(itertools.chain(*one)) for one in itertools.product(*map(itertools.permutations, groups))]


@pytest.mark.parametrize("seed", range(40))
def test_ties_are_the_mean_over_all_their_orders(seed):
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 7))
    scores = random.choice([-np.inf, 0.0, 1.0, 2.0], length)
    labels = np.zeros(length)
    labels[random.permutation(length)[: int(random.integers(1, length))]] = random.integers(1, 4)
    k = int(random.integers(1, 8))
    expected = np.mean([by_hand(order, labels.tolist(), k) for order in every_order(scores.tolist())], axis=0)
    # Beside longer rows: places that do not exist hold what would spoil every figure.
    wide, wide_labels, where = np.full((3, 9), 99.0), np.full((3, 9), 5.0), np.zeros((3, 9), bool)
    at = np.sort(random.permutation(9)[:length])
    wide[1, at], wide_labels[1, at], where[1, at] = scores, labels, True
    found = (
        tied.ndcg(wide, wide_labels, where, k),
        tied.mrr(wide, wide_labels, where),
        tied.auc(wide, wide_labels, where),
    )
    np.testing.assert_allclose([each[1] for each in found], expected, atol=1e-12)
    assert [each[0] for each in found] == [0, 0, 0], "a row without places"


def test_without_ties_they_are_those_of_scikit_learn():
    from sklearn.metrics import ndcg_score, roc_auc_score  # a second to import

    random = np.random.default_rng(0)
    scores, where = random.normal(size=(50, 12)), np.ones((50, 12), bool)
    labels = (random.random((50, 12)) < 0.3).astype(float)
    labels[:, 0], labels[:, 1] = 1.0, 0.0
    np.testing.assert_allclose(
        tied.auc(scores, labels, where), [roc_auc_score(t, s) for t, s in zip(labels, scores, strict=True)]
    )
    for k in (5, 10):
        expected = [ndcg_score(t[None], s[None], k=k) for t, s in zip(labels, scores, strict=True)]
        np.testing.assert_allclose(tied.ndcg(scores, labels, where, k), expected)


def test_ties_are_averaged_as_scikit_learn_averages_them():
    from sklearn.metrics import ndcg_score

    random = np.random.default_rng(1)
    scores, labels = random.integers(0, 3, (50, 9)).astype(float), random.integers(0, 3, (50, 9)).astype(float)
    expected = [ndcg_score(t[None], s[None], k=4) for t, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(tied.ndcg(scores, labels, np.ones((50, 9), bool), 4), expected, atol=1e-12)

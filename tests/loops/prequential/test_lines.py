"""NDCG and agreement are those of other libraries, ties and unknown candidates included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import ndcg_score

from recdistill.loops.prequential.lines import agreement, ndcg


def test_ndcg_is_that_of_sklearn_also_with_ties_and_lists_of_different_lengths() -> None:
    random = np.random.default_rng(5)
    scores = [random.integers(0, 4, length).astype(np.float32) for length in (3, 12, 25, 12)]
    labels = [(random.random(len(one)) < 0.3).astype(np.float32) for one in scores]
    for one in labels:
        one[0] = 1.0
    wanted = [ndcg_score(label[None], score[None], k=10) for score, label in zip(scores, labels, strict=True)]
    assert ndcg(scores, labels).tolist() == pytest.approx(wanted)


def test_an_unknown_candidate_comes_last() -> None:
    scores, labels = [np.array([np.nan, -5.0, -7.0])], [np.array([1.0, 0.0, 0.0])]
    assert ndcg(scores, labels).tolist() == pytest.approx([0.5])  # at the third place: 1 / log2(4)


def test_agreement_is_that_of_scipy_over_what_both_know() -> None:
    random = np.random.default_rng(6)
    one = [random.integers(0, 5, length).astype(np.float64) for length in (6, 9)]
    other = [random.integers(0, 5, length).astype(np.float64) for length in (6, 9)]
    one[0][2], other[1][4] = np.nan, np.nan
    wanted = []
    for a, b in zip(one, other, strict=True):
        both = ~np.isnan(a) & ~np.isnan(b)
        wanted.append(stats.kendalltau(a[both], b[both]).statistic)
    assert agreement(one, other).tolist() == pytest.approx(wanted)
    assert np.isnan(agreement([np.array([1.0, np.nan])], [np.array([2.0, 3.0])])).all()

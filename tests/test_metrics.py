"""Ranking metrics against trec_eval, scikit-learn, scipy and plain loops."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.tries import tries

from recdistill import metrics
from recdistill.errors import UsageError


def order(scores, where):
    """Places, best first, by a plain sort of (score, position)."""
    return [p for _, p in sorted((-s, p) for p, (s, w) in enumerate(zip(scores, where, strict=True)) if w)]


def brute(scores, labels, where, k):
    """NDCG, recall, reciprocal rank and hit by the definitions, one list at a time."""
    ranked = [labels[p] for p in order(scores, where)]
    cut = len(ranked) if k is None else k
    dcg = sum(max(label, 0) / math.log2(rank + 2) for rank, label in enumerate(ranked[:cut]))
    best = sum(max(label, 0) / math.log2(rank + 2) for rank, label in enumerate(sorted(ranked, reverse=True)[:cut]))
    hits = [rank for rank, label in enumerate(ranked) if label > 0]
    found = [rank for rank in hits if rank < cut]
    return (
        dcg / best if best else 0.0,
        len(found) / len(hits) if hits else 0.0,
        1 / (found[0] + 1) if found else 0.0,
        float(bool(found)),
    )


lists = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, -np.inf])),
        hnp.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0.0, 0.0, 0.0, 1.0, 2.0])),
        hnp.arrays(np.bool_, shape),
        st.one_of(st.none(), st.integers(1, 14)),
    )
)


@tries(100)
@given(lists)
def test_metrics_are_their_definitions_with_ties_masks_and_cut_offs(case):
    scores, labels, where, k = case
    expected = np.array([brute(*row, k) for row in zip(scores, labels, where, strict=True)])
    for column, metric in enumerate((metrics.ndcg, metrics.recall, metrics.mrr, metrics.hit_rate)):
        np.testing.assert_allclose(metric(scores, labels, where=where, k=k), expected[:, column], atol=1e-12)


def test_many_relevant_places_take_the_other_path_and_agree():
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 9, (5, 60)).astype(float), (random.random((5, 60)) < 0.8).astype(float)
    where = random.random((5, 60)) < 0.9
    expected = [brute(*row, 10)[0] for row in zip(scores, labels, where, strict=True)]
    np.testing.assert_allclose(metrics.ndcg(scores, labels, where=where, k=10), expected)


def test_against_trec_eval():
    trec = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed (extra: test)")
    random = np.random.default_rng(1)
    scores = random.normal(size=(30, 40)).astype(np.float32).astype(float)
    labels = random.integers(0, 4, (30, 40)) * (random.random((30, 40)) < 0.2)
    labels[:, 0] = 1
    qrels = {f"q{q}": {f"d{d}": int(v) for d, v in enumerate(row)} for q, row in enumerate(labels)}
    run = {f"q{q}": {f"d{d}": float(v) for d, v in enumerate(row)} for q, row in enumerate(scores)}
    found = trec.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "ndcg", "recall.10", "recip_rank", "success.10", "map", "map_cut.10"}
    ).evaluate(run)
    ours = {
        "ndcg_cut_10": metrics.ndcg(scores, labels, k=10),
        "ndcg": metrics.ndcg(scores, labels),
        "recall_10": metrics.recall(scores, labels, k=10),
        "recip_rank": metrics.mrr(scores, labels),
        "map": metrics.average_precision(scores, labels),
        "map_cut_10": metrics.average_precision(scores, labels, k=10),
        "success_10": metrics.hit_rate(scores, labels, k=10),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, [found[f"q{q}"][name] for q in range(30)], atol=1e-6, err_msg=name)


def test_ndcg_against_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (it comes with mlflow)")
    random = np.random.default_rng(2)
    scores, labels = random.normal(size=(20, 15)), random.integers(0, 5, (20, 15)).astype(float)
    assert metrics.ndcg(scores, labels, k=7).mean() == pytest.approx(sklearn.ndcg_score(labels, scores, k=7))


def test_kendall_tau_against_scipy_with_ties():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (it comes with mlflow)")
    random = np.random.default_rng(3)
    scores, labels = random.integers(0, 6, (25, 12)).astype(float), random.integers(0, 6, (25, 12)).astype(float)
    where = random.random((25, 12)) < 0.7
    expected = [stats.kendalltau(s[w], t[w]).statistic for s, t, w in zip(scores, labels, where, strict=True)]
    np.testing.assert_allclose(metrics.kendall_tau(scores, labels, where=where), np.nan_to_num(expected), atol=1e-12)


def test_kendall_tau_of_the_top_is_that_of_the_places_the_labels_rank_highest():
    scores, labels = np.array([[1.0, 2.0, 3.0, 9.0]]), np.array([[4.0, 3.0, 2.0, 1.0]])
    assert metrics.kendall_tau(scores, labels, k=3).tolist() == [-1.0]
    assert metrics.kendall_tau(-scores, labels, k=3).tolist() == [1.0]


def test_overlap_is_that_of_sets():
    random = np.random.default_rng(4)
    scores, labels = random.integers(0, 5, (40, 30)).astype(float), random.integers(0, 5, (40, 30)).astype(float)
    where = random.random((40, 30)) < 0.5
    expected = [
        len(set(order(s, w)[:10]) & set(order(t, w)[:10])) / min(10, int(w.sum()))
        for s, t, w in zip(scores, labels, where, strict=True)
    ]
    np.testing.assert_allclose(metrics.overlap(scores, labels, where=where, k=10), expected)


def test_a_masked_place_is_behind_a_real_one_that_is_minus_infinite():
    where = np.array([[False, True, True]])
    scores, labels = np.array([[0.0, -np.inf, 5.0]]), np.array([[0.0, 1.0, -np.inf]])
    assert metrics.overlap(scores, labels, where=where, k=2).tolist() == [1.0]
    assert metrics.kendall_tau(scores, labels, where=where, k=2).tolist() == [-1.0]


@tries(200)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=st.sampled_from([0, 1, 2, 3, -np.inf])
    ),
    st.integers(1, 20),
)
def test_top_k_is_the_head_of_a_stable_sort(scores, k):
    np.testing.assert_array_equal(metrics.top_k(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_masked_places_may_hold_anything_but_a_nan_that_counts_is_refused():
    scores, labels = np.array([[np.nan, 1.0, 2.0]]), np.array([[1.0, 1.0, 0.0]])
    where = np.array([[False, True, True]])
    assert metrics.mrr(scores, labels, where=where).tolist() == [0.5]
    assert metrics.kendall_tau(scores, labels, where=where).tolist() == [-1.0]
    with pytest.raises(UsageError, match="NaN in a place that counts"):
        metrics.ndcg(scores, labels)


def test_wholly_masked_and_empty_lists_give_zero_and_leading_shapes_stay():
    for metric in (metrics.ndcg, metrics.recall, metrics.mrr, metrics.hit_rate, metrics.kendall_tau, metrics.overlap):
        assert metric(np.ones((2, 3, 4)), np.ones((2, 3, 4)), where=np.zeros((2, 3, 4), bool)).tolist() == [[0] * 3] * 2
        assert metric(np.ones((2, 0)), np.ones((2, 0))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.ndcg(np.ones((2, 3)), np.ones((2, 4))), "one shape"),
        (lambda: metrics.ndcg(np.ones((2, 3)), np.ones((2, 3)), where=np.ones(3, bool)), "one shape"),
        (lambda: metrics.ndcg(np.float64(1), np.float64(1)), "one shape"),
        (lambda: metrics.recall(np.ones((2, 3)), np.ones((2, 3)), k=0), "at least 1, not 0"),
        (lambda: metrics.ndcg(np.ones((1, 2)), np.array([[np.inf, 1.0]])), "a label is infinite"),
        (lambda: metrics.bootstrap_interval([]), "needs rows"),
        (lambda: metrics.bootstrap_interval([1.0], draws=0), "0 draws"),
        (lambda: metrics.bootstrap_interval([1.0, np.nan]), "NaN or infinite"),
        (lambda: metrics.paired_interval([1.0], [1.0, 2.0]), "same lists on both sides"),
    ],
)
def test_wrong_input_gets_one_clear_sentence(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_bootstrap_is_the_plain_resampling_of_the_same_seed():
    values = np.random.default_rng(5).exponential(size=200)
    random = np.random.default_rng(9)
    means = [values[random.integers(0, 200, 200)].mean() for _ in range(500)]
    found = metrics.bootstrap_interval(values, seed=9, draws=500)
    assert (found.mean, found.n) == (pytest.approx(values.mean()), 200)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


@pytest.mark.slow
def test_intervals_are_about_as_wide_as_theory_and_cover():
    random = np.random.default_rng(6)
    samples = random.normal(1.0, 2.0, (200, 100))
    found = [metrics.bootstrap_interval(row, draws=400) for row in samples]
    assert np.mean([i.high - i.low for i in found]) == pytest.approx(2 * 1.96 * 2 / math.sqrt(100), rel=0.1)
    assert 0.88 <= np.mean([i.low <= 1.0 <= i.high for i in found]) <= 0.99


def test_a_paired_interval_is_narrower_where_the_lists_share_their_difficulty():
    random = np.random.default_rng(7)
    hardness = random.normal(size=500)
    a, b = hardness + 0.05 + 0.01 * random.normal(size=500), hardness
    paired = metrics.paired_interval(a, b)
    alone = metrics.bootstrap_interval(a)
    assert 0.04 < paired.low < paired.high < 0.06
    assert alone.high - alone.low > 20 * (paired.high - paired.low)


@pytest.mark.slow
def test_columns_share_their_resamples_and_memory_is_bounded():
    values = np.random.default_rng(8).random((20_000, 3))
    tracemalloc.start()
    means = metrics.bootstrap_means(np.c_[values, values[:, 0] - values[:, 1]], draws=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(means[:, 3], means[:, 0] - means[:, 1], atol=1e-12)
    assert peak < 150e6

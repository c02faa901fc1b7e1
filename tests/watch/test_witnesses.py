"""Statistics of lists: against scipy, brute force and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special, stats

from recdistill.errors import UsageError
from recdistill.watch.witnesses import (
    average_ranks,
    label_curve,
    pair_auc,
    place_and_spread,
    rank_correlation,
    temperature,
)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_correlations_and_pairs_by_other_means(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, where = random.integers(0, 6, (40, 9)).astype(float), random.random((40, 9)) < 0.7
    b, labels = random.normal(size=(40, 9)), (random.random((40, 9)) < 0.3) * 2.0
    ranks, rho, auc = average_ranks(a, where), rank_correlation(a, b, where), pair_auc(a, labels, where)
    compared = 0
    for i, real in enumerate(where):
        assert ranks[i, real] == pytest.approx(stats.rankdata(a[i, real]))
        if real.sum() < 2 or len(set(a[i, real])) == 1:
            assert np.isnan(rho[i])
        else:
            assert rho[i] == pytest.approx(stats.spearmanr(a[i, real], b[i, real]).statistic)
        taken, left = a[i, real & (labels[i] > 0)], a[i, real & (labels[i] == 0)]
        if len(taken) and len(left):
            compared += 1
            assert auc[i] == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in taken for y in left]))
        else:
            assert np.isnan(auc[i])
    assert compared > 20


def choices(seed: int, true_temperature: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists with one label each, drawn from the softmax at a temperature."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(count, 15))
    where = np.arange(15) < random.integers(2, 16, (count, 1))
    noisy = np.where(where, scores / true_temperature + random.gumbel(size=scores.shape), -np.inf)
    return scores, (np.arange(15) == noisy.argmax(1)[:, None]).astype(float), where


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_the_labels_came_from(true_temperature: float) -> None:
    scores, labels, where = choices(0, true_temperature)
    found = temperature(scores, labels, where)
    assert found == pytest.approx(true_temperature, rel=0.12)

    def loss(sharpness: float) -> float:
        logits = np.where(where, sharpness * scores, -np.inf)
        return -float((labels * np.where(where, special.log_softmax(logits, 1), 0)).sum())

    best = optimize.minimize_scalar(loss, bounds=(0.02, 20), method="bounded", options={"xatol": 1e-6})
    assert 1 / found == pytest.approx(best.x, abs=2e-4)
    grid = np.linspace(0.1, 5, 9)
    curve = label_curve(scores, labels, where, grid)
    assert curve == pytest.approx([loss(b) for b in grid])
    assert (np.diff(curve, 2) > 0).all()  # convex


def test_a_rescaled_teacher_has_its_temperature_rescaled() -> None:
    scores, labels, where = choices(1, 1.0)
    assert temperature(scores * 3, labels, where) == pytest.approx(3 * temperature(scores, labels, where), rel=1e-3)


def test_labels_against_the_order_make_the_flattest_and_none_is_an_error() -> None:
    scores, _, where = choices(2, 1.0, count=50)
    with pytest.raises(UsageError, match="no list has a label"):
        temperature(scores, np.zeros_like(scores), where)
    against = (scores == np.where(where, scores, np.inf).min(1, keepdims=True)) * 1.0
    assert temperature(scores, against, where) == pytest.approx(50, rel=0.01)


def test_place_and_spread_by_the_definition() -> None:
    random = np.random.default_rng(6)
    scores, where = random.normal(3, 2, size=(50, 9)), np.arange(9) < random.integers(2, 10, (50, 1))
    scores[0] = 4.0
    middle, spread = place_and_spread(scores, where)
    for i, (row, real) in enumerate(zip(scores, where, strict=True)):
        median = np.median(row[real])
        assert middle[i] == pytest.approx(median)
        if i:
            assert np.exp(spread[i]) == pytest.approx(np.abs(row[real] - median).mean())
    assert np.isnan(spread[0])

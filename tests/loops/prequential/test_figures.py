"""Means and intervals are those of the formula in matrices, and cover the truth where users differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recdistill.loops.prequential.figures import Figure, Sums, pooled, t_of


def sums_of(groups: np.ndarray, values: np.ndarray) -> Sums:
    sums = Sums()
    for group, value in zip(groups.tolist(), values.tolist(), strict=True):
        sums.add("a", group, value)
    return sums


def figure_of(groups: np.ndarray, values: np.ndarray) -> Figure:
    found = sums_of(groups, values).figure("a")
    assert found is not None
    return found


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 30, 255])
def test_the_point_of_student_is_that_of_scipy(freedom: int) -> None:
    assert t_of(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=0.02)


def test_the_interval_is_that_of_least_squares_with_clusters() -> None:
    """A mean is a regression on a constant; its sandwich is worked here in matrices."""
    random = np.random.default_rng(3)
    groups = random.integers(0, 12, 90)
    values = random.random(90) + groups / 20
    x = np.ones((90, 1))
    beta = np.linalg.lstsq(x, values, rcond=None)[0]
    residual = values - x @ beta
    meat = np.zeros((1, 1))
    for group in np.unique(groups):
        score = x[groups == group].T @ residual[groups == group]
        meat += np.outer(score, score)
    bread = np.linalg.inv(x.T @ x)
    count = len(np.unique(groups))
    deviation = float(np.sqrt(count / (count - 1) * (bread @ meat @ bread)[0, 0]))
    half = stats.t.ppf(0.975, count - 1) * deviation
    found = figure_of(groups, values)
    assert (found.n, found.groups) == (90, count)
    assert found.mean == pytest.approx(beta[0], abs=1e-6)
    assert found.low == pytest.approx(beta[0] - half, abs=1e-4)
    assert found.high == pytest.approx(beta[0] + half, abs=1e-4)


def test_the_interval_covers_the_truth_where_lists_of_a_user_are_alike_and_a_naive_one_does_not() -> None:
    random = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(400):
        users = random.integers(0, 40, 400)
        values = (random.random(40) < 0.5)[users] * 0.5 + random.random(400) * 0.5
        found = figure_of(users, values)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.5 <= found.high
        naive += abs(values.mean() - 0.5) <= 1.96 * values.std() / 20
    assert covered / 400 > 0.92
    assert naive / 400 < 0.6


def test_one_group_has_a_mean_and_no_interval() -> None:
    found = figure_of(np.array([4, 4]), np.array([0.25, 0.75]))
    assert (found.mean, found.low, str(found)) == (0.5, None, "0.500")
    assert Sums().figure("a") is None


def test_parts_pooled_are_the_whole() -> None:
    random = np.random.default_rng(1)
    groups, values = random.integers(0, 9, 50), random.random(50)
    parts = [sums_of(groups[:20], values[:20]), sums_of(groups[20:], values[20:])]
    assert pooled(parts).figure("a") == figure_of(groups, values)
    assert pooled(parts).figures().keys() == {"a"}

"""The stability index and its test, against scipy, against values worked by hand, and on lists that are alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from recdistill.watch.cells import LEAST, Cells, chi_squared


def test_the_index_is_that_of_the_formula() -> None:
    cells = Cells(base=[1200, 800], squares=[36_000, 16_000], blocks=40, window=[200, 300])
    index, limit = cells.compared(0.01)
    p, q = 1200.5 / 2001, 200.5 / 501
    assert index == pytest.approx((q - p) * math.log(q / p) + (p - q) * math.log((1 - q) / (1 - p)), rel=1e-12)
    assert limit == LEAST  # 6.6 / 400 is far below


@pytest.mark.parametrize("degrees", [2, 5, 10, 31, 60])
@pytest.mark.parametrize("alpha", [0.01, 1e-4, 1e-6])
def test_the_quantile_is_near_the_exact_one_and_seldom_below(degrees: int, alpha: float) -> None:
    exact = stats.chi2.isf(alpha, degrees)
    assert 0.995 * exact <= chi_squared(degrees, alpha) <= 1.1 * exact


def test_of_independent_entries_the_index_is_that_of_chance() -> None:
    """(1/n + 1/m) times the degrees of freedom, on average over many windows."""
    random, found = np.random.default_rng(0), []
    for _ in range(300):
        cells = Cells()
        assert cells.add(random.integers(0, 16, 2_500), np.arange(2_500), alpha=0.01) is None
        found.append(cells.index)
    assert np.mean(found) == pytest.approx(15 * (1 / 500 + 1 / 2000), rel=0.05)


def test_entries_that_come_in_runs_widen_what_chance_explains() -> None:
    """Each entry ten times in a row: the spread of the blocks is ten times as wide, and so is the limit."""
    random = np.random.default_rng(1)
    cells, runs = Cells(), Cells()
    cells.add(random.integers(0, 16, 2_000), np.arange(2_000), alpha=0.01)
    runs.add(random.integers(0, 16, 200).repeat(10), np.arange(2_000), alpha=0.01)
    cells.window, runs.window = [32] * 16, [32] * 16
    assert cells.compared(1e-6)[1] == pytest.approx(LEAST, abs=0.05)
    assert 6 <= runs.compared(1e-6)[1] / ((1 / 512 + 1 / 2000) * chi_squared(15, 1e-6)) <= 14


def test_a_new_cell_and_a_lost_one_are_a_shift() -> None:
    cells = Cells()
    assert cells.add(np.zeros(2_000, np.int64), np.arange(2_000), alpha=0.01) is None
    moved = cells.add(np.full(500, 9), np.arange(2_000, 2_500), alpha=0.01)
    assert moved is not None
    assert (moved.reference, moved.since) == ((0, 1_999), 2_000)
    assert cells.blocks == 0  # a new reference begins


def test_each_question_makes_the_next_one_harder() -> None:
    cells, limits = Cells(), []
    random = np.random.default_rng(2)
    cells.add(random.integers(0, 64, 2_000), np.arange(2_000), alpha=0.01)
    for _ in range(3):
        cells.add(random.integers(0, 64, 500), np.arange(500), alpha=0.01)
        cells.window = [8] * 64
        limits.append(cells.compared(0.01 / ((cells.asked + 1) * (cells.asked + 2)))[1])
        cells.window = []
    assert limits == sorted(limits)
    assert cells.asked == 3

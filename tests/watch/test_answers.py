"""Answers of two times: their agreement against scipy's rank correlation, and what is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from recdistill.watch import compare

random = np.random.default_rng(0)
FIRST = [random.normal(size=length) for length in (5, 12, 30)]


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (100.0, -7.0), (0.01, 3.0)])
def test_a_unit_is_no_matter_of_order(factor: float, offset: float) -> None:
    found = compare([(one, factor * one + offset) for one in FIRST])
    assert (found.lists, found.scores, found.agreement) == (3, 47, 1.0)
    assert found.differ == (0 if factor == 1 else 47)
    assert found.moved == (factor != 1)
    if factor == 100:
        assert "47 of 47 scores differ; they were at " in str(found)
        assert "and are now at" in str(found)


def test_the_agreement_is_the_mean_rank_correlation_weighed_by_spread() -> None:
    pairs = [(one, one + random.normal(size=len(one))) for one in FIRST]
    rhos = [spearmanr(before, now).statistic for before, now in pairs]
    both = np.array([[before.std(), now.std()] for before, now in pairs])
    weights = (both / both.mean(0)).sum(1)
    assert compare(pairs).agreement == pytest.approx(np.average(rhos, weights=weights), abs=0.005)


def test_lists_of_near_equals_say_little() -> None:
    """Two lists in a clear order that holds, and eight in which the noise of a sum decides."""
    clear = [(one, one + 0) for one in FIRST[1:]]
    equal = [(1 + 1e-4 * random.normal(size=20), 1 + 1e-4 * random.normal(size=20)) for _ in range(8)]
    assert compare([*clear, *equal]).agreement > 0.99
    assert abs(np.mean([spearmanr(*pair).statistic for pair in equal])) < 0.3


def test_what_is_flat_lost_or_not_there() -> None:
    flat, none = np.full(4, 0.5), np.zeros(0)
    assert compare([(flat, flat)]).agreement == 1.0
    assert compare([(flat, flat + 1)]).agreement == 1.0  # no order, then as now
    assert compare([(FIRST[0], np.zeros(5))]).agreement == 0.0  # all candidates are equal now
    assert compare([(FIRST[0], FIRST[0]), (none, none)]).agreement == pytest.approx(2 / 3, abs=0.01)
    assert compare([(none, none)] * 3).agreement == 0.0
    assert compare([]).lists == 0
    assert compare([(FIRST[0], -FIRST[0])]).agreement == -1.0

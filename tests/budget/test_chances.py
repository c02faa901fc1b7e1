"""Where a budget goes: held against brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.budget.chances import (
    disagreement,
    factor,
    head_and_rest,
    inclusion,
    ridge,
    shares,
    standardise,
    systematic,
    unit,
)

sizes = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(sizes, st.floats(0.05, 1.0), st.integers(0, 2**32 - 1))
def test_the_expected_cost_is_the_budget(drawn: list[float], budget: float, seed: int) -> None:
    sizes_N = np.array(drawn)
    costs_N = np.random.default_rng(seed).integers(1, 100, len(drawn)).astype(float)
    chances_N = inclusion(sizes_N, costs_N, budget=budget, least=0.25 * budget)
    assert (chances_N * costs_N).sum() == pytest.approx(budget * costs_N.sum(), rel=1e-6)
    assert chances_N.min() >= 0.25 * budget
    assert chances_N.max() <= 1
    inside = (chances_N > 0.25 * budget * 1.001) & (chances_N < 0.999)
    slopes = chances_N[inside] * np.sqrt(costs_N[inside]) / sizes_N[inside]
    assert slopes.max(initial=0.0) - slopes.min(initial=slopes.max(initial=0.0)) <= 1e-6 * slopes.max(initial=0.0)
    assert factor(np.zeros(0), np.zeros(0), budget=budget, least=0.1) == 1.0


def test_no_other_allocation_has_less_variance() -> None:
    """Brute force over a grid: the variance Σ x² (1 − p) / p at one cost is least where `inclusion` says."""
    sizes_N, costs_N = np.array([3.0, 1.0, 0.5]), np.array([1.0, 4.0, 1.0])
    chosen = inclusion(sizes_N, costs_N, budget=0.5, least=0.01)

    def variance(chances: np.ndarray) -> float:
        return float((sizes_N**2 * (1 - chances) / chances).sum())

    steps = np.linspace(0.01, 1, 100)
    best = math.inf
    for a, b in itertools.product(steps, steps):
        c = 3.0 - a - 4 * b
        if 0.01 <= c <= 1:
            best = min(best, variance(np.array([a, b, c])))
    assert variance(chosen) <= best + 1e-9


def test_the_estimate_is_unbiased_and_better_than_even_where_disagreement_is_concentrated() -> None:
    rng = np.random.default_rng(0)
    count, budget = 400, 0.3
    truth_N = np.where(rng.random(count) < 0.1, 5.0, 0.3) * rng.uniform(0.5, 1.5, count)
    guess_N = truth_N * rng.uniform(0.5, 2.0, count)  # the prediction is off by up to a factor of two
    ones_N = np.ones(count)
    found = {}
    for name, sizes_N in (("chosen", guess_N), ("even", ones_N)):
        chances_N = inclusion(sizes_N, ones_N, budget=budget, least=0.25 * budget)
        drawn = rng.random((4000, count)) < chances_N
        found[name] = (drawn * (truth_N / chances_N)).sum(1)
        assert drawn.mean() == pytest.approx(budget, abs=0.005)
    for estimates in found.values():
        error = estimates.std() / np.sqrt(len(estimates))
        assert abs(estimates.mean() - truth_N.sum()) < 4 * error
    assert found["chosen"].std() < 0.4 * found["even"].std()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12))
def test_systematic_draws_each_with_its_probability(drawn: list[float]) -> None:
    chances_L = np.array(drawn)
    starts = (np.arange(1000) + 0.5) / 1000
    samples = np.array([systematic(chances_L, start) for start in starts])
    # On an even grid of 1,000 starts the shares are exact to a few steps.
    assert samples.mean(0) == pytest.approx(chances_L, abs=0.0051)
    assert set(samples.sum(1)) <= {math.floor(chances_L.sum()), math.ceil(chances_L.sum())} | {round(chances_L.sum())}


def test_a_whole_number_is_drawn_whole() -> None:
    chances_L = head_and_rest(np.arange(64.0), 19)
    assert chances_L.sum() == pytest.approx(19)
    assert np.flatnonzero(chances_L == 1).tolist() == list(range(55, 64))
    assert np.ptp(chances_L[:55]) == 0
    for key in range(200):
        assert systematic(chances_L, unit(str(key))).sum() == 19
    assert head_and_rest(np.zeros(5), 2).tolist() == [0.4] * 5
    assert head_and_rest(np.arange(3.0), 7).tolist() == [1.0] * 3


def test_units_look_random_and_depend_on_the_key_alone() -> None:
    drawn = np.array([unit("list", str(n)) for n in range(20_000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx([2000] * 10, abs=200)
    assert unit("a", "b") == unit("a", "b") != unit("ab")


def test_disagreement_is_a_distance_and_takes_no_notice_of_units() -> None:
    rng = np.random.default_rng(1)
    a, b, ones = rng.normal(size=9), rng.normal(size=9), np.ones(9)
    scaled, _ = disagreement(standardise(7 * a + 3, ones), standardise(b, ones), ones)
    plain, parts = disagreement(standardise(a, ones), standardise(b, ones), ones)
    assert scaled == pytest.approx(plain)
    assert 0 < plain < 1
    assert parts.sum() == pytest.approx(plain)
    assert disagreement(a, a, ones)[0] == 0
    assert standardise(np.full(4, 3.0), np.ones(4)).tolist() == [0.0] * 4
    # Three of a kind count as one that is counted three times.
    whole = shares(standardise(np.array([1.0, 2.0, 2.0, 2.0]), np.ones(4)), np.ones(4))
    part = shares(standardise(np.array([1.0, 2.0]), np.array([1.0, 3.0])), np.array([1.0, 3.0]))
    assert part.tolist() == pytest.approx([whole[0], whole[1:].sum()])


def test_ridge_finds_a_line_and_shrinks_towards_the_mean() -> None:
    rng = np.random.default_rng(2)
    rows = np.column_stack([np.ones(500), rng.normal(size=(500, 2))])
    targets = rows @ [0.5, 2.0, 0.0] + 0.01 * rng.normal(size=500)
    assert ridge(rows, targets, np.ones(500), strength=1e-6).tolist() == pytest.approx([0.5, 2.0, 0.0], abs=0.01)
    constant = ridge(rows, targets, np.ones(500), strength=1e9)
    assert constant[0] == pytest.approx(targets.mean(), abs=1e-3)
    assert np.abs(constant[1:]).max() < 1e-3
    twice = np.concatenate([np.ones(250), np.full(250, 2.0)])
    doubled = np.concatenate([np.arange(500), np.arange(250, 500)])
    assert ridge(rows, targets, twice, strength=3.0) == pytest.approx(
        ridge(rows[doubled], targets[doubled], np.ones(750), strength=3.0)
    )

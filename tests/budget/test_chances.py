"""Chances and draws: held against the definitions and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.budget.chances import head_and_rest, systematic, unit


@tries(40)
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

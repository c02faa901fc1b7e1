"""Off-policy estimates: by hand, against the truth of a world, and where there is nothing to estimate from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from recdistill.errors import DataError
from recdistill.judge.offpolicy import LEAST, Logged, check_overlap, ips, snips
from references import policies


def logged(matched: object, chances: object, rewards: object, clusters: object) -> Logged:
    matched_NT = np.array(matched, bool)
    return Logged(
        matched_NT, np.array(chances, float), np.array(rewards, float), np.ones_like(matched_NT), np.array(clusters)
    )


def test_estimates_by_hand() -> None:
    log = logged([[1, 1], [1, 0], [1, 1]], [[1, 0.5], [1, 0.5], [1, 0.25]], [[0, 1], [1, 1], [1, 0]], [0, 0, 1])
    # Place 0: weights 1, 1, 1. Place 1: weights 2, 0, 4.
    assert ips(log).mean == pytest.approx((0 + 2 + 1 + 0 + 1 + 0) / 3)
    assert snips(log).mean == pytest.approx(2 / 3 + 2 / 6)
    # Lists of two users: the pulls of SNIPS are 3/3 · w (r − 2/3) at place 0 and 3/6 · w (r − 1/3) at place 1.
    pulls = [-2 / 3 + 0.5 * 2 * (2 / 3), 1 / 3, 1 / 3 - 0.5 * 4 / 3]
    sums = np.array([pulls[0] + pulls[1], pulls[2]])
    # At place 1 the matches' squares are 1 · 4/9 + 4 · 1/9; with the variance of all three labels, 2/9, they were 10/9.
    error = np.sqrt(((sums**2).sum() + 10 / 9 - 8 / 9) * 2 / 1) / 3
    assert (sums**3).sum() == pytest.approx(0), "no skewness: the interval is that of the normal distribution"
    found = snips(log)
    assert (found.low, found.high) == pytest.approx((1 - 1.959964 * error, 1 + 1.959964 * error))


def test_a_place_that_some_lists_have_not_is_worth_its_share() -> None:
    log = logged([[1, 1], [1, 1]], [[1, 1], [1, 1]], [[1, 1], [0, 0]], [0, 1])
    short = log._replace(where_NT=np.array([[True, True], [True, False]]))
    assert snips(log).mean == ips(log).mean == 1.0
    assert snips(short).mean == ips(short).mean == 1.0


def test_a_skewed_interval_reaches_further_up() -> None:
    random = np.random.default_rng(0)
    weights = np.where(random.random((4000, 1)) < 0.02, 50.0, 0.0)
    log = logged(weights > 0, np.full((4000, 1), 0.02), random.random((4000, 1)) < 0.3, np.arange(4000))
    found = ips(log)
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


def test_where_no_match_has_a_label_the_other_lists_say_how_uncertain_it_is() -> None:
    """Three matches of weight 100 without a label. A rate of labels of .2 could have been there all the same."""
    chances, matched = np.full((400, 1), 0.99), np.zeros((400, 1))
    chances[:3], matched[:3] = 0.01, 1
    rewards = np.zeros((400, 1))
    rewards[3::5] = 1.0
    log = logged(matched, chances, rewards, np.arange(400))
    rate, error = 80 / 400, np.sqrt(400 / 399)
    assert ips(log).mean == snips(log).mean == 0.0
    # IPS: three squares of 100², each with the mean square of a label, .2. No skewness is seen.
    assert ips(log).high == pytest.approx(1.959964 * error * np.sqrt(3 * 100**2 * rate) / 400)
    # SNIPS: each weight is 400 / 300 · 100, and the variance of a label is .2 · .8.
    square = 3 * (400 / 300 * 100) ** 2 * rate * (1 - rate)
    assert snips(log).high == pytest.approx(1.959964 * error * np.sqrt(square) / 400)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda log: log._replace(matched_NT=np.zeros((0, 2), bool)), "there is no served list"),
        (lambda log: log._replace(chances_NT=np.ones((4000, 2))), "no served list was explored"),
        (lambda log: log._replace(matched_NT=log.matched_NT & [True, False]), "no overlap: at about (4|5).% of the pl"),
    ],
)
def test_without_overlap_it_refuses(change: Callable[[Logged], Logged], sentence: str) -> None:
    random = np.random.default_rng(0)
    chances = np.where(random.random((4000, 2)) < 0.3, 0.3, 0.7)
    log = logged(chances == 0.3, chances, np.zeros((4000, 2)), np.arange(4000))
    check_overlap(log)
    with pytest.raises(DataError, match=sentence):
        check_overlap(change(log))


def test_with_few_lists_it_asks_for_more() -> None:
    log = logged([[1]] * 10 + [[0]] * 90, [[0.1]] * 100, [[1]] * 100, range(100))
    with pytest.raises(DataError, match=f"too few lists: only 10 times .* {LEAST} are needed"):
        check_overlap(log)


@pytest.mark.slow
def test_the_truth_is_in_the_interval_as_often_as_it_says() -> None:
    served, runs = policies.world(pool=5), 25
    worth = policies.truths(served)
    rows = policies.measured(served, runs=runs, lists=40_000, share=0.05, seed=1)
    least = binom.ppf(1e-3, runs, 0.95)
    for name in ("other", "true order", "neighbours"):
        assert rows[name].refused == 0
        assert policies.holds(rows[name].snips, worth[name]) >= least
        # An estimator that is wrong on average would be found by the mean of all runs.
        for found in (rows[name].snips, rows[name].ips):
            means = np.array([one.mean for one in found])
            assert abs(means.mean() - worth[name]) < 4 * means.std() / np.sqrt(runs) + 0.01
    assert rows["elsewhere"].refused == runs, "items that were never there"
    assert rows["reversed"].refused == runs, "too few rare draws"
    assert all(a > b for a, b in pairwise(worth[name] for name in ("true order", "other", "neighbours", "reversed")))


@pytest.mark.slow
def test_without_exploration_every_other_order_is_refused() -> None:
    rows = policies.measured(policies.world(pool=5), runs=1, lists=2_000, share=0.0, seed=1)
    assert {name: row.refused for name, row in rows.items()} == dict.fromkeys(rows, 1)


def test_one_user_alone_says_nothing_of_how_far_an_estimate_may_be_off():
    matched = np.array([[True, True], [True, False]])
    log = Logged(matched, np.full((2, 2), 0.5), np.ones((2, 2)), np.ones((2, 2), bool), np.arange(2))
    check_overlap(log)
    with pytest.raises(DataError, match="all served lists are of one user"):
        check_overlap(log._replace(clusters_N=np.zeros(2, np.int64)))

"""What lists of another policy would be worth, from lists that were served with known chances.

A served list says the chance of each item to be at its place. Where the other policy puts the same item at that place,
the list tells something about it, and it counts one over the chance. This is inverse propensity scoring by item and
place (Li et al., "Offline evaluation of ranking policies with click models", KDD 2018): what happens at a place may
depend on the item and the place, not on the items around it.

- IPS: `V = 1/N Σ_n Σ_t w_nt r_nt`. It is right on average.
- SNIPS: each place is divided by the sum of its own weights, which is N on average. It varies less (Swaminathan and
  Joachims, NIPS 2015).

The intervals are of 95% and clustered: the lists of one user are not independent. The variance of SNIPS is that of a
ratio. Few lists with large weights make such sums skewed to the right, and an interval that is as wide on both sides
ends too low too often. So the bounds are those of Hall's transformation, which takes the skewness out (Hall, "On the
removal of skewness by transformation", JRSS B 1992).

Without overlap there is no estimate. Where the other policy puts an item at a place at which it was never shown, the
weights of that place have a mean below 1, and this is refused.

It knows nothing of records or of how a policy orders.

Example:
    >>> matched = np.array([[True, True], [True, False]])
    >>> log = Logged(matched, np.full((2, 2), 0.5), np.ones((2, 2)), np.ones((2, 2), bool), np.arange(2))
    >>> ips(log).mean, snips(log).mean
    (3.0, 2.0)
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recdistill.errors import DataError
from recdistill.metrics import Interval

Floats = NDArray[np.float64]

Z: Final = 1.959964
"""Half the width of a 95% interval, in standard errors."""

_SURE: Final = 3.0
"""By how many standard errors the weights of the places must be below 1, so that overlap is missing."""

LEAST: Final = 300
"""Fewest rare matches with which the intervals hold what they say; `benchmarks/bench_offpolicy.py` measures it."""

_SLIGHT: Final = 1e-6

RARE: Final = 0.5
"""A chance below this is of an item that the serving policy did not want there."""


class Logged(NamedTuple):
    """N served lists with T places each, beside the lists of another policy for the same requests.

    Args:
        matched_NT: Where the other policy puts the item that was shown.
        chances_NT: The chance of the shown item to be at its place.
        rewards_NT: What came of it, such as a click.
        where_NT: Where both lists have an item.
        clusters_N: A number for the user of each list.
    """

    matched_NT: NDArray[np.bool_]
    chances_NT: Floats
    rewards_NT: Floats
    where_NT: NDArray[np.bool_]
    clusters_N: NDArray[np.int64]


def check_overlap(log: Logged) -> None:
    """Looks whether the served lists can tell of the other policy.

    Raises:
        DataError: They cannot.
    """
    if not len(log.matched_NT) or not log.where_NT.any():
        raise DataError("there is no served list to learn from; serve with rank.write_back and rank.explore_share")
    if not (log.where_NT & (log.chances_NT < 1)).any():
        raise DataError(
            "no served list was explored, so another order cannot be judged by them: set rank.explore_share, and wait"
        )
    weights_NT = _weights(log)
    # The mean weight of a list, as a share of its places: 1 on average, where every item could have been at its place.
    width_N = log.where_NT.sum(1)
    share_N = np.divide(weights_NT.sum(1), width_N, out=np.ones(len(width_N)), where=width_N > 0)
    share, error = float(share_N.mean()), _error(share_N - share_N.mean(), log.clusters_N)[0]
    rare = log.where_NT & log.matched_NT & (log.chances_NT < RARE)
    if share + _SURE * error < 1:
        raise DataError(
            f"no overlap: at about {max(0.0, 1 - share):.0%} of the places this order has items that were never shown "
            "there; a larger rank.explore_pool or a smaller rank.explore_first shows more of them"
        )
    if 0 < (found := int(rare.sum())) < LEAST:
        raise DataError(
            f"too few lists: only {found} times was an item where this order wants it against the serving one, and "
            f"{LEAST} are needed; wait for more, or raise rank.explore_share"
        )


def ips(log: Logged) -> Interval:
    """The value of the other policy a list: right on average, with large variance."""
    value_N = (_weights(log) * log.rewards_NT).sum(1)
    mean = float(value_N.mean())
    return _around(mean, value_N - mean, log.clusters_N)


def snips(log: Logged) -> Interval:
    """The value of the other policy a list, where each place is divided by the sum of its own weights.

    Raises:
        DataError: At some place no item is where the other policy wants it.
    """
    weights_NT = _weights(log)
    total_T, there_T = weights_NT.sum(0), log.where_NT.mean(0)
    if (total_T[there_T > 0] == 0).any():
        raise DataError("no overlap: at some place of the lists no item was ever where this order wants it")
    ratio_T = np.divide((weights_NT * log.rewards_NT).sum(0), total_T, out=np.zeros(len(total_T)), where=total_T > 0)
    # V = Σ_t share_t ratio_t. Its influence function: that of each ratio, and that of the share of lists with place t.
    scale_T = np.divide(there_T * len(weights_NT), total_T, out=np.zeros(len(total_T)), where=total_T > 0)
    ratios_NT = scale_T * weights_NT * (log.rewards_NT - ratio_T)
    pull_N = ratios_NT.sum(1) + ((log.where_NT - there_T) * ratio_T).sum(1)
    return _around(float((there_T * ratio_T).sum()), pull_N, log.clusters_N)


def _weights(log: Logged) -> Floats:
    return np.where(log.where_NT & log.matched_NT, 1 / log.chances_NT, 0.0)


def _error(pull_N: Floats, clusters_N: NDArray[np.int64]) -> tuple[float, float]:
    """The standard error of a mean whose lists pull it so far, where the lists of a cluster move together; its skew.

    The skew is that of the standardised sum: 0 for a normal one.
    """
    sums_C = np.bincount(clusters_N, pull_N)[np.unique(clusters_N)]
    count, square = len(sums_C), float((sums_C**2).sum())
    if count < 2:
        return float("inf"), 0.0
    skew = float((sums_C**3).sum()) / square**1.5 if square > 0 else 0.0
    return float(np.sqrt(square * count / (count - 1)) / len(pull_N)), skew


def _around(mean: float, pull_N: Floats, clusters_N: NDArray[np.int64]) -> Interval:
    error, skew = _error(pull_N, clusters_N)
    low, high = (mean - error * _unskewed(bound, skew) for bound in (Z, -Z))
    return Interval(mean, low, high, len(pull_N))


def _unskewed(bound: float, skew: float) -> float:
    """The standardised error that Hall's transformation takes to a bound of the normal distribution."""
    if abs(skew) < _SLIGHT:
        return bound
    return float(3 / skew * (np.cbrt(1 + skew * (bound - skew / 6)) - 1))

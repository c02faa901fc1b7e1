"""Estimates what the lists of another policy would be worth, from lists that were served with known chances.

A policy is a way to order items. A served list says, for each item, the chance that it came to its place. Where the
other policy puts the same item at the same place, this place of the list counts, with weight 1 / chance. All other
places have weight 0. This is inverse propensity scoring by item and place (Li et al., "Offline evaluation of ranking
policies with click models", KDD 2018). It assumes that what a user does at a place depends on the item and the place,
and not on the items around it.

- IPS: `V = 1/N Σ_n Σ_t w_nt r_nt`. It is right on average.
- SNIPS: the sum of each place is divided by the sum of its weights, instead of N. That sum is N on average. SNIPS
  varies less (Swaminathan and Joachims, NIPS 2015).

The intervals are 95% intervals. They are clustered, because the lists of one user are not independent. The variance of
SNIPS is that of a ratio. A few lists with large weights make such sums skewed to the right. Then the upper end of an
interval that is equally wide on both sides is too low, too often. So the bounds come from Hall's transformation, which
removes the skewness (Hall, "On the removal of skewness by transformation", JRSS B 1992).

At a place where the rare matches have few labels, or none, their spread says nothing about how uncertain they are. So
the variance of each place is the larger of two: the one that its matches show, and the one that they would have with
the labels of all served lists at this place.

Without overlap there is no estimate. There is no overlap where the other policy puts items at places at which they were
never shown. Then the mean weight is below 1, and `check_overlap` refuses.

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
"""Overlap is missing when the mean weight is below 1 by more than so many standard errors."""

LEAST: Final = 300
"""With fewer rare matches, the intervals are not right; `benchmarks/bench_offpolicy.py` measures it."""

_SLIGHT: Final = 1e-6

RARE: Final = 0.5
"""An item with a chance below this is rare: the serving policy itself wanted another item at its place."""


class Logged(NamedTuple):
    """N served lists with T places each, beside the lists of another policy for the same requests.

    Args:
        matched_NT: Whether the other policy puts the same item at this place.
        chances_NT: The chance that the shown item came to its place.
        rewards_NT: The label of the shown item, such as 1 for a click.
        where_NT: Whether both lists have an item at this place.
        clusters_N: A number for the user of each list.
    """

    matched_NT: NDArray[np.bool_]
    chances_NT: Floats
    rewards_NT: Floats
    where_NT: NDArray[np.bool_]
    clusters_N: NDArray[np.int64]


def check_overlap(log: Logged) -> None:
    """Checks that the served lists can say something about the other policy.

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
    # The mean weight over the places of a list. On average it is 1, if every item could have been at its place.
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
    if len(np.unique(log.clusters_N)) < 2:
        raise DataError("all served lists are of one user, so nothing says how far off an estimate is; wait for more")


def ips(log: Logged) -> Interval:
    """The value of one list of the other policy, by IPS. It is right on average, with a large variance."""
    weights_NT = _weights(log)
    value_N = (weights_NT * log.rewards_NT).sum(1)
    mean = float(value_N.mean())
    found_T = ((weights_NT * log.rewards_NT) ** 2).sum(0)
    usual_T = (weights_NT**2).sum(0) * _mean_square(log, 0.0)
    return _around(mean, value_N - mean, log.clusters_N, _unseen(found_T, usual_T))


def snips(log: Logged) -> Interval:
    """The value of one list of the other policy, by SNIPS: each place is divided by the sum of its weights.

    Raises:
        DataError: At some place, no list shows the item that the other policy puts there.
    """
    weights_NT = _weights(log)
    total_T, there_T = weights_NT.sum(0), log.where_NT.mean(0)
    if (total_T[there_T > 0] == 0).any():
        raise DataError("no overlap: at some place of the lists no item was ever where this order wants it")
    ratio_T = np.divide((weights_NT * log.rewards_NT).sum(0), total_T, out=np.zeros(len(total_T)), where=total_T > 0)
    # V = Σ_t share_t ratio_t. Its influence function has two parts: of the ratios, and of the shares of lists.
    scale_T = np.divide(there_T * len(weights_NT), total_T, out=np.zeros(len(total_T)), where=total_T > 0)
    pulls_NT = scale_T * weights_NT
    ratios_NT = pulls_NT * (log.rewards_NT - ratio_T)
    pull_N = ratios_NT.sum(1) + ((log.where_NT - there_T) * ratio_T).sum(1)
    usual_T = (pulls_NT**2).sum(0) * _mean_square(log, _mean(log, log.rewards_NT))
    return _around(float((there_T * ratio_T).sum()), pull_N, log.clusters_N, _unseen((ratios_NT**2).sum(0), usual_T))


def _weights(log: Logged) -> Floats:
    return np.where(log.where_NT & log.matched_NT, 1 / log.chances_NT, 0.0)


def _mean(log: Logged, values_NT: Floats) -> Floats:
    """The mean of each place `[T]`, over all served lists that have it."""
    count_T = log.where_NT.sum(0)
    mean_T: Floats = np.where(log.where_NT, values_NT, 0.0).sum(0) / np.maximum(count_T, 1)
    return mean_T


def _mean_square(log: Logged, around_T: Floats | float) -> Floats:
    return _mean(log, (log.rewards_NT - around_T) ** 2)


def _unseen(found_T: Floats, usual_T: Floats) -> float:
    """By how much the squares of the matches fall short of what they would be with the labels of all served lists."""
    return float(np.maximum(usual_T - found_T, 0.0).sum())


def _error(pull_N: Floats, clusters_N: NDArray[np.int64], unseen: float = 0.0) -> tuple[float, float]:
    """The standard error of a mean, and its skew, where lists of one cluster are not independent.

    `pull_N` is the influence of each list on the mean, and `unseen` is added to the sum of their squares. The skew is
    that of the standardised sum: 0 for a normal one.
    """
    sums_C = np.bincount(clusters_N, pull_N)[np.unique(clusters_N)]
    count, square = len(sums_C), float((sums_C**2).sum()) + unseen
    if count < 2:
        return float("inf"), 0.0
    skew = float((sums_C**3).sum()) / square**1.5 if square > 0 else 0.0
    return float(np.sqrt(square * count / (count - 1)) / len(pull_N)), skew


def _around(mean: float, pull_N: Floats, clusters_N: NDArray[np.int64], unseen: float) -> Interval:
    error, skew = _error(pull_N, clusters_N, unseen)
    low, high = (mean - error * _unskewed(bound, skew) for bound in (Z, -Z))
    return Interval(mean, low, high, len(pull_N))


def _unskewed(bound: float, skew: float) -> float:
    """Hall's transformation turned round: the standardised error that belongs to a bound of the normal distribution."""
    if abs(skew) < _SLIGHT:
        return bound
    return float(3 / skew * (np.cbrt(1 + skew * (bound - skew / 6)) - 1))

"""Ranking metrics for lists with equal scores (ties): the mean of each metric over all orders of the tied places.

Many simple rankers give equal scores: all items that nobody has clicked have the same popularity. If tied items stayed
in the order in which the list was shown, such a ranker would get credit for that order. So the mean over all orders of
the ties is computed. It is exact, and nothing is drawn. A ranker that gives every place the same score gets exactly
what chance gets.

All functions take arrays of one shape `[B, L]`. A place where `where_BL` is False does not exist. A score of −inf is
allowed: those places come last, in random order. A place with a label above 0 is relevant.

It knows nothing of records or contenders.

Example:
    >>> flat, labels, where = np.zeros((1, 4)), np.array([[0.0, 1.0, 0.0, 0.0]]), np.ones((1, 4), bool)
    >>> auc(flat, labels, where).tolist(), mrr(flat, labels, where).round(4).tolist()
    ([0.5], [0.5208])
    >>> ndcg(np.array([[4.0, 3.0, 2.0, 1.0]]), labels, where, 10).round(4).tolist()
    [0.6309]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def ndcg(scores_BL: Floats, labels_BL: Floats, where_BL: Mask, k: int) -> Floats:
    """NDCG@k with linear gains, as `recdistill.metrics.ndcg`; 0 for a list without a relevant place."""
    length = scores_BL.shape[1]
    discounts_L = np.where(np.arange(length) < k, 1.0 / np.log2(np.arange(length) + 2.0), 0.0)
    gains_BL = np.where(where_BL, np.maximum(labels_BL, 0.0), 0.0)
    found_B = (gains_BL * _mean_over_ties(scores_BL, where_BL, discounts_L)).sum(1)
    return _divide(found_B, -np.sort(-gains_BL, axis=1) @ discounts_L)


def mrr(scores_BL: Floats, labels_BL: Floats, where_BL: Mask) -> Floats:
    """The mean of 1 / rank over all relevant places of the list, as MIND's evaluation counts it.

    With one relevant place it is the usual reciprocal rank. 0 for a list without a relevant place.
    """
    relevant_BL = where_BL & (labels_BL > 0)
    reciprocal_L = 1.0 / np.arange(1.0, scores_BL.shape[1] + 1.0)
    found_B = (relevant_BL * _mean_over_ties(scores_BL, where_BL, reciprocal_L)).sum(1)
    return _divide(found_B, relevant_BL.sum(1))


def auc(scores_BL: Floats, labels_BL: Floats, where_BL: Mask) -> Floats:
    """The share of pairs (relevant, not relevant) of a list that are in the right order. A tie counts half.

    0 for a list without such a pair.
    """
    relevant_BL = where_BL & (labels_BL > 0)
    other_BL = where_BL & ~relevant_BL
    begin_BL, end_BL = _ranges(scores_BL, where_BL)
    # The mean rank of a place is the middle of its tie. The sum of the ranks of the relevant places gives the number of
    # pairs in the wrong order, as in the test of Mann and Whitney.
    middle_BL = (begin_BL + end_BL - 1) / 2.0
    count_B, others_B = relevant_BL.sum(1), other_BL.sum(1)
    behind_B = (relevant_BL * middle_BL).sum(1) - count_B * (count_B - 1) / 2.0  # pairs in the wrong order
    pairs_B = (count_B * others_B).astype(np.float64)
    return _divide(pairs_B - behind_B, pairs_B)


def _mean_over_ties(scores_BL: Floats, where_BL: Mask, values_L: Floats) -> Floats:
    """For each place, the mean of `values_L` over the ranks that its tie takes."""
    begin_BL, end_BL = _ranges(scores_BL, where_BL)
    sums = np.concatenate([[0.0], np.cumsum(values_L)])
    return np.asarray(_divide(sums[end_BL] - sums[begin_BL], end_BL - begin_BL))


def _ranges(scores_BL: Floats, where_BL: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each place, the ranks of all places of its score: from `begin` (the first is 0) to before `end`."""
    batch, length = scores_BL.shape
    # Places that do not exist are sorted after all others, also after a score of −inf.
    order_BL = np.lexsort((-np.where(where_BL, scores_BL, 0.0), ~where_BL))
    sorted_BL = np.take_along_axis(np.where(where_BL, scores_BL, 0.0), order_BL, 1)
    there_BL = np.take_along_axis(where_BL, order_BL, 1)
    new_BL = np.ones((batch, length), bool)  # whether a rank begins a tie
    new_BL[:, 1:] = (sorted_BL[:, 1:] != sorted_BL[:, :-1]) | (there_BL[:, 1:] != there_BL[:, :-1])
    ranks_L = np.arange(length)
    first_BL = np.maximum.accumulate(np.where(new_BL, ranks_L, 0), axis=1)
    # A tie ends where the next one begins. So this is read from the end.
    next_BL = np.full((batch, length), length)
    next_BL[:, :-1] = np.where(new_BL[:, 1:], ranks_L[1:], length)
    last_BL = np.minimum.accumulate(next_BL[:, ::-1], axis=1)[:, ::-1]
    begin_BL, end_BL = np.empty((2, batch, length), np.int64)
    np.put_along_axis(begin_BL, order_BL, first_BL, 1)
    np.put_along_axis(end_BL, order_BL, last_BL, 1)
    return begin_BL, end_BL


def _divide(above: NDArray[np.float64], below: NDArray[np.float64] | NDArray[np.int64]) -> Floats:
    out: Floats = np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)
    return out

"""Statistics of a list: does its order agree with the student or with labels, and where do its scores lie?

Each function takes a batch, `[B, L]`, with a mask of the real entries. It gives one number for each list, and NaN for a
list that has no answer. The detectors follow these numbers over time.

It knows nothing of time, of teachers, or of what is done about them.

Example:
    >>> teacher, student = np.array([[3.0, 2.0, 1.0]]), np.array([[0.9, 0.1, 0.5]])
    >>> real = np.ones((1, 3), bool)
    >>> rank_correlation(teacher, student, real).round(2).tolist()
    [0.5]
    >>> pair_auc(teacher, np.array([[0, 1, 0]]), real).tolist()  # above one of the two that were left, below the other
    [0.5]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recdistill.errors import UsageError

Array = npt.NDArray[np.float64]
Where = npt.NDArray[np.bool_]

CHANCE_ORDER, CHANCE_PAIRS = 0.0, 0.5
"""Rank correlation, and share of pairs, of a random order."""

SHARPEST, FLATTEST = 20.0, 0.02
"""Limits of 1 / temperature, for scores whose standard deviation is about 1."""


def average_ranks(values_BL: npt.ArrayLike, where_BL: Where) -> Array:
    """Ranks, 1 for the lowest, f64 `[B, L]`; 0 outside of `where_BL`. Equal values share their mean rank."""
    values = np.where(where_BL, np.asarray(values_BL, np.float64), np.inf)
    # Equal values form a run in the sorted list: each gets the mean of the run's first and last place.
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    length = values.shape[1]
    places_L = np.arange(length)
    # `fresh`: here a run starts. `first`: where the run of each value started. `closes` and `last`: the same for ends.
    fresh = np.ones(values.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(fresh, places_L, 0), axis=1)
    closes = np.ones(values.shape, bool)
    closes[:, :-1] = fresh[:, 1:]
    last = np.minimum.accumulate(np.where(closes, places_L, length)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, 1)
    return np.where(where_BL, ranks, 0.0)


def rank_correlation(a_BL: npt.ArrayLike, b_BL: npt.ArrayLike, where_BL: Where) -> Array:
    """Spearman's ρ of each list, f64 `[B]`; NaN where one side is constant, or has fewer than two real values."""
    centred = []
    for values in (a_BL, b_BL):
        ranks = average_ranks(values, where_BL)
        mean_B1 = ranks.sum(1, keepdims=True) / np.maximum(where_BL.sum(1, keepdims=True), 1)
        centred.append(np.where(where_BL, ranks - mean_B1, 0.0))
    a, b = centred
    scale_B = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(np.divide((a * b).sum(1), scale_B, out=np.full(len(a), np.nan), where=scale_B > 0))


def pair_auc(scores_BL: npt.ArrayLike, labels_BL: npt.ArrayLike, where_BL: Where) -> Array:
    """Share of pairs (positive, other) of each list that the scores put in the right order, f64 `[B]`.

    A tie counts half. NaN for a list without such a pair.
    """
    positive = where_BL & (np.asarray(labels_BL) > 0)
    ranks = average_ranks(scores_BL, where_BL)
    n_B = positive.sum(1).astype(np.float64)
    pairs_B = n_B * (where_BL.sum(1) - n_B)
    # Sum of the positives' ranks, less the least it can be: this counts the others below each positive (Mann-Whitney).
    right_B = np.where(positive, ranks, 0.0).sum(1) - n_B * (n_B + 1) / 2
    return np.asarray(np.divide(right_B, pairs_B, out=np.full(len(ranks), np.nan), where=pairs_B > 0))


def place_and_spread(scores_BL: Array, scored_BL: Where) -> tuple[Array, Array]:
    """Median of each list, and log of the mean distance from the median, f64 `[B]` each.

    The log is NaN where all are equal.
    """
    # Entries without a score are sorted to the end. So the median is the middle of the first `count` entries.
    ordered_BL = np.sort(np.where(scored_BL, scores_BL, np.inf), axis=1)
    count_B = scored_BL.sum(1)
    rows_B = np.arange(len(count_B))
    middle_B = (ordered_BL[rows_B, (count_B - 1) // 2] + ordered_BL[rows_B, count_B // 2]) / 2
    distance_B = np.where(scored_BL, np.abs(scores_BL - middle_B[:, None]), 0.0).sum(1) / count_B
    return middle_B, np.log(distance_B, out=np.full(len(count_B), np.nan), where=distance_B > 0)


def label_curve(scores_BL: Array, labels_BL: npt.ArrayLike, where_BL: Where, sharpness_G: Array) -> Array:
    """Negative log-likelihood of the labels under `softmax(β t)`, summed over lists, for each β, f64 `[G]`.

    `Σ_lists Σ_i y_i (log Σ_j exp(β t_j) − β t_i) / Σ_i y_i`. It is convex in β, because log-sum-exp is convex.

    Args:
        scores_BL: t.
        labels_BL: y, at least 0; a list without a positive one adds nothing.
        where_BL: The candidates.
        sharpness_G: The β.
    """
    y_BL = np.where(where_BL, np.asarray(labels_BL, np.float64), 0.0)
    rows_B = np.flatnonzero((y_BL > 0).any(1) & (where_BL.sum(1) >= 2))
    if not rows_B.size:
        return np.zeros(len(sharpness_G))
    share_BL = y_BL[rows_B] / y_BL[rows_B].sum(1, keepdims=True)
    real_BL = where_BL[rows_B]
    # All scores less the best one: exp cannot overflow then, and the formula does not change.
    top_B1 = np.where(real_BL, scores_BL[rows_B], -np.inf).max(1, keepdims=True)
    gap_BL = np.where(real_BL, scores_BL[rows_B] - top_B1, 0.0)
    taken_B = (share_BL * gap_BL).sum(1)
    return np.array(
        [(np.log((np.exp(b * gap_BL) * real_BL).sum(1)) - b * taken_B).sum() for b in sharpness_G], np.float64
    )


def temperature(scores_BL: npt.ArrayLike, labels_BL: npt.ArrayLike, where_BL: Where) -> float:
    """The τ under which `softmax(t / τ)` makes the labels of held-out lists most likely (Platt scaling, for lists).

    It is a golden-section search (Kiefer, 1953) over 1 / τ in [0.02, 20]; the likelihood is concave in 1 / τ. Where
    labels do not agree with the order, the answer is the largest τ.

    Args:
        scores_BL: t; the standard deviation should be about 1.
        labels_BL: At least 0; lists without a positive label take no part.
        where_BL: The candidates that have a score.

    Raises:
        UsageError: No list has a label.

    Example:
        >>> t, y = np.array([[1.0, -1.0]] * 4), np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
        >>> round(1 / temperature(t, y, y >= 0), 3)  # three of four: β with 1 / (1 + e^{−2β}) = 3/4, log(3) / 2
        0.549
    """
    scores = np.asarray(scores_BL, np.float64)
    if not ((np.asarray(labels_BL) > 0) & where_BL).any():
        raise UsageError("temperature: no list has a label on a candidate with a score; calibrate on lists that have")

    def at(sharpness: float) -> float:
        return float(label_curve(scores, labels_BL, where_BL, np.array([sharpness]))[0])

    golden = (np.sqrt(5.0) - 1) / 2
    low, high = FLATTEST, SHARPEST
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = at(left), at(right)
    # The lowest point is between `low` and `high`. Each round cuts off the side whose inner point is higher.
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = at(right)
    return float(2 / (low + high))

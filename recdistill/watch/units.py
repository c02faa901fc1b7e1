"""Makes scores of different teachers comparable, list by list, and says how much each list counts.

`teacher_logits` turns scores into logits, by the scale that the teacher names. Then `comparable_scores` gives each list
mean 0 and a spread near 1, so a teacher's zero and unit do not matter. The weight of one unit is then a single number
for each teacher (`Watch.spreads`).

Everything here depends on the batch alone, never on what was seen before. So a later pass gets the same numbers.

It knows nothing of torch or of teachers that change.

Example:
    >>> scores, real = np.array([[3.0, 2.0, 1.0, 0.0]]), np.ones((1, 4), bool)
    >>> standardised(scores, real).round(2).tolist()
    [[1.34, 0.45, -0.45, -1.34]]
    >>> standardised(40 * scores - 7, real).round(2).tolist()
    [[1.34, 0.45, -0.45, -1.34]]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recdistill.features import Lists

Array = npt.NDArray[np.float64]
Where = npt.NDArray[np.bool_]

MOST_WEIGHT = 20.0
"""The largest weight of a list, and of a candidate in its list."""

UNBOUNDED_SPREAD = 2.0
"""A list of unknown unit gets this standard deviation, in logits."""

PRIOR = 8.0
"""Weight of the teacher's usual spread, counted as 8 extra candidates. A list of two would otherwise get the same gap
always, whatever its scores.
"""

FOREIGN = 25.0
"""If the variance of a list differs by more than this factor, it has another scale than its teacher's other lists."""


def list_weights(lists: Lists) -> np.ndarray:
    """Weight of each list's scores, f32 `[B]`: 1 / p, at most 20; 0 where the scores are not to be learnt from.

    With these weights, the sum over the scored lists is on average the sum over all lists (Horvitz and Thompson,
    1952). The limit of 20 adds a little bias, and takes away variance. A list with fewer than two scores has no order,
    so it weighs 0 too. The weight depends on the list alone, not on the batch.
    """
    active_B = (lists.scored_BL.sum(1) >= 2) & lists.soft_B
    weights_B: np.ndarray = np.where(active_B, np.minimum(lists.weights_B, MOST_WEIGHT), 0.0).astype(np.float32)
    return weights_B


def candidate_offsets(lists: Lists) -> np.ndarray:
    """What is added to the logits of student and teacher, f32 `[B, L]`: −log p of each candidate, at most log 20."""
    if lists.offsets_BL is None:
        return np.zeros((1, 1), np.float32)
    return np.minimum(lists.offsets_BL, np.log(MOST_WEIGHT)).astype(np.float32)


def candidate_counts(lists: Lists) -> Array:
    """How many candidates each scored one stands for, f64 `[B, L]`: 1 / p, at most 20; 0 where there is no score."""
    return np.asarray(lists.scored_BL * np.exp(candidate_offsets(lists).astype(np.float64)), np.float64)


def teacher_logits(lists: Lists, scales: Sequence[str]) -> np.ndarray:
    """A teacher's scores as logits, by the scale that each list names, f32 `[B, L]`; 0 where there is no score.

    - `logit`: as they are.
    - `probability`: log p, so that a softmax gives shares of p.
    - `rank`: only the order counts (more is better): −log of the place, so that a softmax gives shares of 1 / place.
    - `unbounded`: nothing is known of the unit, so each list is brought to mean 0 and a standard deviation of 2.

    Where the teacher scored only a part of the candidates, each scored one counts 1 / p times.
    """
    scored_BL, counts_BL = lists.scored_BL, candidate_counts(lists)
    scores_BL = lists.teacher_scores_BL.copy()
    kinds = np.asarray(scales)
    rows_B = np.flatnonzero(kinds == "probability")
    if rows_B.size:
        scores_BL[rows_B] = np.log(np.clip(scores_BL[rows_B], 1e-9, 1.0))
    rows_B = np.flatnonzero(kinds == "rank")
    if rows_B.size:
        scores_BL[rows_B] = log_places(scores_BL[rows_B], counts_BL[rows_B])
    rows_B = np.flatnonzero(kinds == "unbounded")
    if rows_B.size:
        part = standardised(scores_BL[rows_B], scored_BL[rows_B], counts=counts_BL[rows_B])
        scores_BL[rows_B] = UNBOUNDED_SPREAD * part
    return np.where(scored_BL, scores_BL, 0.0).astype(np.float32)


def log_places(scores_BL: npt.ArrayLike, counts_BL: Array) -> Array:
    """−log of each candidate's place, 0 for the best one. Only the order of the scores counts.

    Args:
        scores_BL: Scores, more is better. Equal scores keep the order of the list.
        counts_BL: How many candidates each one stands for; 0 leaves it out.
    """
    order = np.argsort(np.where(counts_BL > 0, -np.asarray(scores_BL), np.inf), axis=1, kind="stable")
    # `better`: how many candidates are before each one. A running sum in sorted order, put back to the list's order.
    sorted_counts = np.take_along_axis(counts_BL, order, 1)
    better = np.empty_like(sorted_counts)
    np.put_along_axis(better, order, sorted_counts.cumsum(1) - sorted_counts, 1)
    return np.asarray(-np.log1p(better))


def standardised(
    scores_BL: npt.ArrayLike, scored_BL: Where, *, counts: Array | None = None, teachers: Sequence[str] | None = None
) -> Array:
    """Each list with mean 0 and standard deviation 1, f64 `[B, L]`; 0 where there is no score or all are equal.

    With `teachers`, the variance of a list is mixed with the median variance of its teacher's lists in this batch, as
    if eight more candidates had that variance. It is nearly the posterior mean under a scaled inverse-χ² prior. So long
    lists keep their own variance, and short ones take their teacher's. A positive affine map of all scores of a teacher
    still changes nothing. Where the scale changes within a batch, a list of eight or more uses its own variance only.

    Args:
        scores_BL: Scores.
        scored_BL: Which of them are real.
        counts: How many candidates each one stands for; None is 1 for each.
        teachers: The teacher of each list.
    """
    counts_BL = scored_BL.astype(np.float64) if counts is None else counts
    part_BL = np.where(scored_BL, np.asarray(scores_BL, np.float64), 0.0)
    # Weighted mean and variance of each list.
    total_B1 = np.maximum(counts_BL.sum(1, keepdims=True), 1.0)
    centred_BL = np.where(scored_BL, part_BL - (counts_BL * part_BL).sum(1, keepdims=True) / total_B1, 0.0)
    variance_B = (counts_BL * centred_BL**2).sum(1) / total_B1[:, 0]
    # Equal scores leave a little variance by rounding: it counts as 0.
    variance_B[variance_B <= (1e-6 * np.abs(part_BL).max(1, initial=0.0)) ** 2] = 0.0
    if teachers is not None:
        number_B = scored_BL.sum(1)
        names = np.asarray(teachers)
        for name in dict.fromkeys(teachers):
            rows_B = np.flatnonzero((names == name) & (variance_B > 0))
            if rows_B.size:
                # The variance of n scores is too small by (n − 1) / n on average. Short lists need the correction.
                n_B = number_B[rows_B]
                common = float(np.median(variance_B[rows_B] * n_B / np.maximum(n_B - 1, 1)))
                own_B = variance_B[rows_B]
                # Where the scale changes within the batch, a list that is long enough uses its own variance.
                foreign_B = (n_B >= PRIOR) & (np.abs(np.log(own_B / common)) > math.log(FOREIGN))
                variance_B[rows_B] = np.where(foreign_B, own_B, (PRIOR * common + n_B * own_B) / (PRIOR + n_B - 1))
    spread_B1 = np.sqrt(np.where(variance_B > 0, variance_B, 1.0))[:, None]
    return np.asarray(np.where(variance_B[:, None] > 0, centred_BL / spread_B1, 0.0))


def centred(lists: Lists, logits_BL: np.ndarray) -> np.ndarray:
    """Each list less its mean, f32 `[B, L]`; 0 where there is no score, or where all are equal but for rounding."""
    counts_BL = candidate_counts(lists)
    values_BL = np.where(lists.scored_BL, logits_BL.astype(np.float64), 0.0)
    total_B = np.maximum(counts_BL.sum(1), 1.0)
    part_BL = values_BL - (counts_BL * values_BL).sum(1, keepdims=True) / total_B[:, None]
    squares_B = (counts_BL * np.where(lists.scored_BL, part_BL, 0.0) ** 2).sum(1) / total_B
    equal_B = squares_B <= (1e-6 * np.abs(values_BL).max(1, initial=0.0)) ** 2
    return np.where(lists.scored_BL & ~equal_B[:, None], part_BL, 0.0).astype(np.float32)


def variances(lists: Lists, centred_BL: np.ndarray) -> Array:
    """The variance of each list's centred scores, f64 `[B]`, as if it had no end."""
    counts_BL = candidate_counts(lists)
    squares_B = (counts_BL * centred_BL.astype(np.float64) ** 2).sum(1) / np.maximum(counts_BL.sum(1), 1.0)
    number_B = lists.scored_BL.sum(1)
    return np.asarray(squares_B * number_B / np.maximum(number_B - 1, 1))


def comparable_scores(lists: Lists, scales: Sequence[str], teachers: Sequence[str], method: str) -> np.ndarray:
    """A batch's teacher scores in common units, f32 `[B, L]`; 0 where there is no score.

    Args:
        lists: The batch.
        scales: What each list's scores mean.
        teachers: The teacher of each list. A short list takes its spread in part from its teacher's other lists.
        method: `teacher`: the logits by the scale, with mean 0. Their unit is the teacher's, and the watch finds it
            (`Watch.in_units`). `standard`: the logits by the scale, with mean 0 and standard deviation near 1. `rank`:
            the same for −log of the place, so only the order counts. `scale`: the logits as they are; nothing is made
            comparable.
    """
    if method == "teacher":  # a unit that is not known need not be made up
        return centred(lists, teacher_logits(lists, ["logit" if scale == "unbounded" else scale for scale in scales]))
    logits_BL = teacher_logits(lists, scales)
    if method == "scale":
        return logits_BL
    counts_BL = candidate_counts(lists)
    values_BL = log_places(logits_BL, counts_BL) if method == "rank" else logits_BL
    return standardised(values_BL, lists.scored_BL, counts=counts_BL, teachers=teachers).astype(np.float32)

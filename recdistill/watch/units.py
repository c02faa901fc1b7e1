"""Makes scores of different teachers comparable, list by list, and says how much each list counts.

`teacher_logits` reads scores by the scale that their teacher names. `comparable_scores` goes on from there: each list
gets mean 0 and a spread near 1, so nothing depends on a teacher's zero or unit. How much one unit weighs is then a
single number for each teacher (`Watch.spreads`).

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
"""Of a list among those of its batch, of a candidate among those of its list."""

UNBOUNDED_SPREAD = 2.0
"""Standard deviation, in logits, that a list of unknown unit is brought to."""

PRIOR = 8.0
"""Weight of the teacher's usual spread in the spread of one list, in candidates. A list of two has no spread of its own
to go by: each gap would become the same."""

FOREIGN = 25.0
"""A list whose variance differs by more than this factor has another scale than its teacher's other lists."""


def list_weights(lists: Lists) -> np.ndarray:
    """Weight of each list's scores, f32 `[B]`: 1 / p, in units of the mean over the lists with scores, at most 20.

    With these the mean over the lists that were put to the teacher is that over all lists, in expectation (Horvitz and
    Thompson, 1952; normalised after Hájek). The cap trades a little of that for less variance.
    """
    active_B = lists.scored_BL.sum(1) >= 2
    if not active_B.any() or (lists.weights_B == 1).all():
        return np.ones_like(lists.weights_B)
    weights_B = lists.weights_B / lists.weights_B[active_B].mean()
    capped_B: np.ndarray = np.minimum(weights_B, MOST_WEIGHT).astype(np.float32)
    return capped_B


def believed_share(lists: Lists, weights_B: np.ndarray, trust_B: np.ndarray) -> float:
    """Share of the weight of a batch's lists with scores that is left when some are not believed; 1 when all are."""
    active_B = (lists.scored_BL.sum(1) >= 2) * weights_B
    total = float(active_B.sum())
    return float((active_B * trust_B).sum()) / total if total > 0 else 1.0


def candidate_offsets(lists: Lists) -> np.ndarray:
    """What is added to the logits of both sides, f32 `[B, L]`: −log p of each candidate, at most log 20."""
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

    Where only a part of the candidates was put to the teacher, each counts for the 1 / p that it stands for.
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
    """−log of each candidate's place, the best one's being 0; only the order of the scores counts.

    Args:
        scores_BL: Scores, more is better; equal ones keep the list's order.
        counts_BL: How many candidates each stands for; 0 leaves it out.
    """
    order = np.argsort(np.where(counts_BL > 0, -np.asarray(scores_BL), np.inf), axis=1, kind="stable")
    sorted_counts = np.take_along_axis(counts_BL, order, 1)
    better = np.empty_like(sorted_counts)
    np.put_along_axis(better, order, sorted_counts.cumsum(1) - sorted_counts, 1)
    return np.asarray(-np.log1p(better))


def standardised(
    scores_BL: npt.ArrayLike, scored_BL: Where, *, counts: Array | None = None, teachers: Sequence[str] | None = None
) -> Array:
    """Each list with mean 0 and standard deviation 1, f64 `[B, L]`; 0 where there is no score or all are equal.

    With `teachers`, the variance of a list is mixed with the median variance of its teacher's lists in this batch, as
    if that had been seen in eight more candidates (the posterior mean under a scaled inverse-χ² prior, nearly): long
    lists keep their own, short ones take their teacher's. A positive affine map of all of a teacher's scores still
    changes nothing, and where the scale changes within a batch a list of eight or more goes by itself.

    Args:
        scores_BL: Scores.
        scored_BL: Which of them are real.
        counts: How many candidates each stands for; 1 when None.
        teachers: Whose list each is.
    """
    counts_BL = scored_BL.astype(np.float64) if counts is None else counts
    part_BL = np.where(scored_BL, np.asarray(scores_BL, np.float64), 0.0)
    total_B1 = np.maximum(counts_BL.sum(1, keepdims=True), 1.0)
    centred_BL = np.where(scored_BL, part_BL - (counts_BL * part_BL).sum(1, keepdims=True) / total_B1, 0.0)
    variance_B = (counts_BL * centred_BL**2).sum(1) / total_B1[:, 0]
    # What rounding leaves of equal scores is no spread.
    variance_B[variance_B <= (1e-6 * np.abs(part_BL).max(1, initial=0.0)) ** 2] = 0.0
    if teachers is not None:
        number_B = scored_BL.sum(1)
        names = np.asarray(teachers)
        for name in dict.fromkeys(teachers):
            rows_B = np.flatnonzero((names == name) & (variance_B > 0))
            if rows_B.size:
                # The sample's variance is (n − 1) / n of what it estimates, which matters when lists are short.
                n_B = number_B[rows_B]
                common = float(np.median(variance_B[rows_B] * n_B / np.maximum(n_B - 1, 1)))
                own_B = variance_B[rows_B]
                # Where a scale changes within the batch, a list that can say its own is not measured by the others'.
                foreign_B = (n_B >= PRIOR) & (np.abs(np.log(own_B / common)) > math.log(FOREIGN))
                variance_B[rows_B] = np.where(foreign_B, own_B, (PRIOR * common + n_B * own_B) / (PRIOR + n_B - 1))
    spread_B1 = np.sqrt(np.where(variance_B > 0, variance_B, 1.0))[:, None]
    return np.asarray(np.where(variance_B[:, None] > 0, centred_BL / spread_B1, 0.0))


def comparable_scores(lists: Lists, scales: Sequence[str], teachers: Sequence[str], method: str) -> np.ndarray:
    """A batch's teacher scores in common units, f32 `[B, L]`; 0 where there is no score.

    Args:
        lists: The batch.
        scales: What each list's scores mean.
        teachers: Whose each list is; lists of one teacher share what a short list cannot say of its spread.
        method: `standard`: the logits that the scale says, with mean 0 and standard deviation near 1. `rank`: the same
            of −log of the place, so that nothing but the order counts. `scale`: the logits as they are; nothing is
            made comparable.
    """
    logits_BL = teacher_logits(lists, scales)
    if method == "scale":
        return logits_BL
    counts_BL = candidate_counts(lists)
    values_BL = log_places(logits_BL, counts_BL) if method == "rank" else logits_BL
    return standardised(values_BL, lists.scored_BL, counts=counts_BL, teachers=teachers).astype(np.float32)

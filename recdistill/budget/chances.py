"""What a teacher budget is spent on: inclusion probabilities, and a guess where teacher and student disagree.

Poisson sampling: each list is put to the teacher with its own probability p, independent of the others, and weighs
1 / p in the loss. For a given expected cost the variance of such an estimate is least when p is proportional to the
size of what a list adds to it over the root of its cost (Neyman's allocation, 1934). That size is not known before the
teacher was asked, so it is predicted from what is known before. However wrong the prediction is, the estimate stays
unbiased, as long as no p is 0.

It knows arrays only: nothing of records, logs, teachers or students.

Example:
    >>> inclusion(np.array([4.0, 1.0, 1.0]), np.ones(3), budget=0.5, least=0.1).round(3).tolist()
    [1.0, 0.25, 0.25]
    >>> systematic(np.array([1.0, 0.5, 0.5]), 0.7).tolist()
    [True, False, True]
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HEAD: Final = 0.5
"""Share of a list's budget that goes to the candidates expected to be best; the rest is drawn from all others."""

SPREAD: Final = 2.0
"""Standard deviation, in logits, that scores of any unit are brought to before they are made shares."""


def unit(*key: str) -> float:
    """A number in [0, 1) that looks random and depends on the key alone, so that a replay draws the same."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2.0**53


def inclusion(sizes_N: Floats, costs_N: Floats, *, budget: float, least: float) -> Floats:
    """Probabilities `clip(c · size / √cost, least, 1)` whose expected cost is the budget's share of the whole.

    Args:
        sizes_N: Above 0, what each unit is expected to add.
        costs_N: Above 0, what it costs.
        budget: Share of `Σ costs` in [least, 1].
        least: No probability is below it.

    Returns:
        Shape `[N]`, with `Σ p · cost = budget · Σ cost` but for rounding.
    """
    return np.clip(factor(sizes_N, costs_N, budget=budget, least=least) * sizes_N / np.sqrt(costs_N), least, 1.0)


def factor(sizes_N: Floats, costs_N: Floats, *, budget: float, least: float) -> float:
    """The c of `inclusion`: exact, by sorting the places where a probability meets one of its bounds."""
    if not len(sizes_N):
        return 1.0
    slopes_N = sizes_N / np.sqrt(costs_N)
    want = budget * costs_N.sum()
    # Expected cost is piecewise linear in c, with a knee where a probability leaves `least` and where it reaches 1.
    knees = np.sort(np.concatenate([least / slopes_N, 1.0 / slopes_N]))

    def spent(c: float) -> float:
        return float((np.clip(c * slopes_N, least, 1.0) * costs_N).sum())

    low, high = 0, len(knees) - 1
    if spent(knees[high]) <= want:
        return float(knees[high])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(knees[middle]) <= want else (low, middle)
    below, above = spent(knees[low]), spent(knees[high])
    share = (want - below) / (above - below) if above > below else 0.0
    return float(knees[low] + min(1.0, max(0.0, share)) * (knees[high] - knees[low]))


def head_and_rest(expected_L: Floats, count: float, *, head: float = HEAD) -> Floats:
    """Inclusion probabilities of the candidates of one list, which sum to `count`.

    `head` of the count goes to the candidates expected to score best, for certain; the rest is shared evenly by all
    others, so that whatever was expected wrongly is found out. Ties at the edge of the head are broken by place.

    Args:
        expected_L: Expected scores; all equal where nothing is expected, and then there is no head.
        count: How many candidates may be scored, at most L.
        head: Share of the count that is certain.
    """
    length = len(expected_L)
    if count >= length:
        return np.ones(length)
    certain = int(head * count) if np.ptp(expected_L) > 0 else 0
    chances_L = np.full(length, (count - certain) / (length - certain))
    chances_L[np.argsort(-expected_L, kind="stable")[:certain]] = 1.0
    return chances_L


def systematic(chances_L: Floats, start: float) -> npt.NDArray[np.bool_]:
    """Draws a sample of nearly fixed size: each member with its own probability, `Σ chances` rounded up or down in all.

    Madow's systematic sampling (1949): a grid of step 1 that begins at `start` is laid over the cumulated chances.
    Bring the members into a random order first, or neighbours are hardly ever drawn together.

    Args:
        chances_L: Probabilities.
        start: In [0, 1).
    """
    ends_L = np.cumsum(chances_L)
    # The last sum of a whole number may fall short of it by rounding, and would lose a member.
    ends_L = np.where(np.abs(ends_L - ends_L.round()) < 1e-9, ends_L.round(), ends_L)
    grid_L = np.floor(ends_L - start)
    drawn_L: npt.NDArray[np.bool_] = np.diff(grid_L, prepend=np.floor(-start)) > 0
    return drawn_L


def standardise(scores_L: Floats, counts_L: Floats) -> Floats:
    """Scores with mean 0 and standard deviation 1, each counted `counts_L` times; all 0 where they do not differ."""
    total = counts_L.sum()
    centred_L: Floats = scores_L - (counts_L * scores_L).sum() / total
    spread = np.sqrt((counts_L * centred_L**2).sum() / total)
    return centred_L / spread if spread > 1e-12 else np.zeros_like(centred_L)


def shares(standard_L: Floats, counts_L: Floats) -> Floats:
    """Softmax of standardised scores brought to `SPREAD`, each counted `counts_L` times."""
    powers_L = counts_L * np.exp(SPREAD * (standard_L - standard_L.max()))
    total_L: Floats = powers_L / powers_L.sum()
    return total_L


def disagreement(teacher_L: Floats, student_L: Floats, counts_L: Floats) -> tuple[float, Floats]:
    """Total variation between the shares of two standardised score lists, in [0, 1], and each candidate's part of it.

    It bounds the gradient of a softmax distillation loss, whose entries are the differences of these shares.

    Args:
        teacher_L: Standardised scores.
        student_L: The same of who is to be taught, or of what was expected.
        counts_L: How many candidates each stands for.
    """
    parts_L = np.abs(shares(teacher_L, counts_L) - shares(student_L, counts_L)) / 2
    return float(parts_L.sum()), parts_L


def ridge(rows_NF: Floats, targets_N: Floats, weights_N: Floats, *, strength: float) -> Floats:
    """Weighted ridge regression `(XᵀWX + λI)⁻¹ XᵀWy`; the first column, the constant, is not shrunk."""
    weighted = rows_NF * weights_N[:, None]
    penalty = strength * np.eye(rows_NF.shape[1])
    penalty[0, 0] = 1e-9
    return np.linalg.solve(rows_NF.T @ weighted + penalty, weighted.T @ targets_N).astype(np.float64)

"""Compares the answers that a teacher gave to the same questions at two times.

The agreement is the mean rank correlation of the lists. A list counts by the spread of its scores: where a teacher
finds all candidates nearly equal, their order says little. A change of unit does not change the agreement.

It knows nothing of who asked, or when.

Example:
    >>> first = [np.array([3.0, 2.0, 1.0]), np.array([0.5, 0.1, 0.9])]
    >>> compare([(before, 100 * before - 7) for before in first]).agreement
    1.0
    >>> print(compare([(before, -before) for before in first]))
    agrees with its first answers at -1.00 (6 of 6 scores differ; they were at 0.95 ± 0.75 and are now at -0.95 ± 0.75)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recdistill.watch.witnesses import Array, rank_correlation

MOVED = 0.1
"""A middle that has moved by more than this share of the spread, or a spread that has changed by more, is told."""


class Comparison(NamedTuple):
    """What has changed between first answers and new ones."""

    lists: int
    agreement: float
    """Rank correlation, rounded to two digits."""
    scores: int
    differ: int
    """How many of the scores differ by more than rounding does."""
    before: tuple[float, float]
    """Middle of the first scores, and mean distance from it."""
    now: tuple[float, float]

    @property
    def moved(self) -> bool:
        """Whether the scores have another middle or another spread."""
        (place, spread), (new_place, new_spread) = self.before, self.now
        return abs(new_place - place) > MOVED * spread or abs(new_spread - spread) > MOVED * spread

    def __str__(self) -> str:
        said = f"agrees with its first answers at {self.agreement:.2f}"
        (place, spread), (new_place, new_spread) = self.before, self.now
        scores = f"{self.differ:,} of {self.scores:,} scores differ"
        if self.moved:
            scores += f"; they were at {place:.3g} ± {spread:.3g} and are now at {new_place:.3g} ± {new_spread:.3g}"
        return f"{said} ({scores})"


def compare(answers: Sequence[tuple[Array, Array]]) -> Comparison:
    """Compares answers, list by list.

    Args:
        answers: The first scores and the new ones of each list, for the candidates that have both. A list that is now
            without an answer has two empty arrays: it counts as one that does not agree.
    """
    correlations, spreads, differ = [], [], 0
    for before_L, now_L in answers:
        same_L = np.isclose(now_L, before_L, rtol=1e-5, atol=1e-8)
        differ += int((~same_L).sum())
        correlations.append(_correlation(before_L, now_L, equal=bool(same_L.all())))
        spreads.append([_spread(before_L), _spread(now_L)])
    weights_B2 = np.array(spreads, np.float64).reshape(-1, 2)
    usual_2 = weights_B2.mean(0) if len(weights_B2) else np.zeros(2)
    weights_B = (weights_B2 / np.where(usual_2 > 0, usual_2, 1.0)).sum(1)
    # A list without an answer, and lists that all are flat, count as the others do on average.
    weights_B = np.where(weights_B > 0, weights_B, max(float(weights_B.mean()) if len(weights_B) else 0.0, 1e-9))
    agreement = float(np.average(correlations, weights=weights_B)) if correlations else 0.0
    before_N, now_N = (np.concatenate([pair[side] for pair in answers] or [np.zeros(0)]) for side in (0, 1))
    return Comparison(
        lists=len(answers),
        agreement=round(min(1.0, max(-1.0, agreement)), 2) + 0.0,
        scores=len(before_N),
        differ=differ,
        before=_place(before_N),
        now=_place(now_N),
    )


def _correlation(before_L: Array, now_L: Array, *, equal: bool) -> float:
    if len(before_L) == 0:
        return 0.0
    if equal:
        return 1.0
    [rho] = rank_correlation(before_L[None], now_L[None], np.ones((1, len(before_L)), bool))
    if np.isfinite(rho):
        return float(rho)
    # All equal at both times is the same order; all equal at one time only is not.
    return 1.0 if _spread(before_L) == _spread(now_L) == 0 else 0.0


def _spread(values: Array) -> float:
    return float(np.std(values)) if len(values) else 0.0


def _place(values: Array) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    middle = float(np.median(values))
    return middle, float(np.abs(values - middle).mean())

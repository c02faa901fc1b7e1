"""Describes the items that a contender puts first: coverage, popularity, novelty and diversity. It needs no labels.

It knows nothing of contenders, labels or of how a list was made.

Example:
    >>> tops, ranks = np.array([[0, 1], [0, -2]]), np.array([0.9, 0.2, 0.1])
    >>> shown = behaviour_of(tops, ranks, np.array([6, 1, 1]), np.eye(3, dtype=np.float32), 3)
    >>> round(shown.coverage, 3), round(shown.popularity, 3), shown.diversity
    (0.667, 0.667, 1.0)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Behaviour(NamedTuple):
    """Figures of a contender's first places; see `Quality`. `diversity`: None: no list has two items with vectors."""

    coverage: float
    popularity: float
    novelty: float
    diversity: float | None


def behaviour_of(
    top_BK: NDArray[np.int64],
    percentile_N: Floats,
    counts_N: Floats,
    vectors_ND: NDArray[np.float32],
    catalogue: int,
) -> Behaviour:
    """Computes the four figures of the first places.

    Novelty is the mean self-information of the items (Zhou et al., "Solving the apparent diversity-accuracy dilemma",
    2010), with one interaction added to each item, so that a new item has a finite value. Diversity is the mean
    distance within a list (Ziegler et al., "Improving recommendation lists through topic diversification", 2005).

    Args:
        top_BK: Item numbers, the best first. A number below 0 is an empty place.
        percentile_N: Popularity percentile of each item.
        counts_N: Training interactions of each item.
        vectors_ND: Vectors of the first N items. Later items have none.
        catalogue: How many items there are to choose from.
    """
    shown = top_BK[top_BK >= 0]
    if not len(shown):
        return Behaviour(0.0, 0.0, 0.0, None)
    surprise_N = -np.log2((counts_N + 1) / (counts_N.sum() + len(counts_N)))
    return Behaviour(
        coverage=len(np.unique(shown)) / catalogue,
        popularity=float(percentile_N[shown].mean()),
        novelty=float(surprise_N[shown].mean()),
        diversity=_diversity(top_BK, vectors_ND),
    )


def _diversity(top_BK: NDArray[np.int64], vectors_ND: NDArray[np.float32]) -> float | None:
    """With unit vectors u of a list, the sum of cosines over all pairs is (|Σu|² − n) / 2."""
    there_BK = (top_BK >= 0) & (top_BK < len(vectors_ND))
    vectors_BKD = np.asarray(vectors_ND[np.where(there_BK, top_BK, 0)], np.float64)
    lengths_BK = np.linalg.norm(vectors_BKD, axis=2)
    there_BK &= lengths_BK > 0
    units_BKD = np.divide(vectors_BKD, lengths_BK[..., None], out=np.zeros_like(vectors_BKD), where=there_BK[..., None])
    count_B = there_BK.sum(1)
    cosines_B = ((units_BKD.sum(1) ** 2).sum(1) - count_B) / 2
    pairs_B = count_B * (count_B - 1) / 2
    several = pairs_B > 0
    if not several.any():
        return None
    return float((1 - cosines_B[several] / pairs_B[several]).mean())

"""The unit of a teacher: the usual spread of its lists that say something, found in the stream.

Some lists hold near-equals: the teacher tells them apart by little more than noise. If each list were brought to the
same spread, that noise would be taught as strongly as knowledge. So the unit belongs to the teacher. Lists are counted
by the logarithm of their standard deviation, and older ones count less. The unit is the middle of these counts, where
each list counts by its variance. So narrow lists have nearly no say, whether they are few or most. The widest fiftieth
counts as its narrowest list, so that a few lists far out do not set the unit.

A list that is r times as wide as the unit gets a spread of r where r is small, and of nearly 1 where it is large. A
narrower list never gets more.

It knows nothing of torch, of lists' labels or of who is believed.

Example:
    >>> unit, random = Unit(), np.random.default_rng(0)
    >>> wide, narrow = 5 * random.lognormal(0, 0.2, 200), 0.05 * np.ones(800)
    >>> unit.add(np.concatenate([wide, narrow]) ** 2)
    >>> 4.5 < unit.spread() < 6
    True
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Array = npt.NDArray[np.float64]

STEPS = 8
"""Counts in an octave of the standard deviation."""

HALF_LIFE = 5_000
"""After so many lists, a list counts half as much."""

FAR_OUT = 0.02
"""Share of the lists that may be wide without a reason."""


class Unit(Struct):
    """How often a teacher's lists have each spread: `counts` at `places`, ascending."""

    places: list[int] = []
    counts: list[float] = []
    last: int = 0
    """Lists that the watch had seen when the teacher came last."""

    def add(self, variance_B: Array) -> None:
        """Counts lists. One without a variance says nothing."""
        real_B = variance_B > 0
        if not real_B.any():
            return
        keep = 0.5 ** (float(real_B.sum()) / HALF_LIFE)
        place_B = np.rint(np.log2(variance_B[real_B]) / 2 * STEPS).astype(np.int64)
        places = np.concatenate([np.array(self.places, np.int64), place_B])
        counts = np.concatenate([keep * np.array(self.counts, np.float64), np.ones(len(place_B))])
        found, at = np.unique(places, return_inverse=True)
        summed = np.bincount(at, counts)
        kept = summed > 1e-3
        self.places, self.counts = found[kept].tolist(), summed[kept].tolist()

    def spread(self) -> float:
        """The unit; 1 while nothing is known."""
        if not self.places:
            return 1.0
        deviation_P, count_P = 2.0 ** (np.array(self.places) / STEPS), np.array(self.counts)
        share_P = count_P.cumsum() / count_P.sum()
        cap = deviation_P[np.searchsorted(share_P, 1 - FAR_OUT)]
        says_P = count_P * np.minimum(deviation_P, cap) ** 2
        # The middle, between the places: so the unit does not jump from one place to the next.
        upto_P = says_P.cumsum() - says_P / 2
        return float(np.exp(np.interp(upto_P[-1] / 2 + says_P[-1] / 4, upto_P, np.log(deviation_P))))


def fitted(centred_BL: npt.NDArray[np.floating], variance_B: Array, unit_B: Array) -> Array:
    """Lists in the unit of their teacher, f64 `[B, L]`: `r / (1 + r⁴)^¼` is the spread of a list r times as wide.

    Args:
        centred_BL: Scores less their mean; 0 where there is none.
        variance_B: Their variance.
        unit_B: The unit of each list's teacher.
    """
    ratio_B = np.sqrt(variance_B) / unit_B
    fitted_BL: Array = centred_BL / (unit_B * (1 + ratio_B**4) ** 0.25)[:, None]
    return fitted_BL

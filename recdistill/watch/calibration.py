"""How far a teacher's scores should be spread: so that the labels seen so far are most likely.

For each of 49 values of the sharpness β it keeps the negative log-likelihood of the labels under `softmax(β t)`. Newer
lists count more. The answer is the β where this curve is lowest.

It knows nothing of who is believed.

Example:
    >>> Calibration().sharpness()  # nothing is known yet
    2.0
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.watch.observation import Seen
from recdistill.watch.units import UNBOUNDED_SPREAD
from recdistill.watch.witnesses import FLATTEST, SHARPEST, label_curve

SHARPNESS_G = np.geomspace(FLATTEST, SHARPEST, 49)

SAMPLE = 64
"""At most so many labelled lists of a batch are used."""

HALF_LIFE = 20_000
"""After so many lists, a list counts half as much."""

ENOUGH = 200
"""So many lists are needed before the curve is used."""


class Calibration(Struct):
    """The curve of one teacher."""

    curve: list[float] = []
    lists: float = 0.0

    def add(self, seen: Seen) -> None:
        """Adds a sample of a batch's labelled lists to the likelihood of each sharpness."""
        rows_B = np.flatnonzero(((seen.labels_BL > 0) & seen.witnessed_BL).any(1))[:SAMPLE]
        if not rows_B.size:
            return
        curve_G = label_curve(seen.units_BL[rows_B], seen.labels_BL[rows_B], seen.witnessed_BL[rows_B], SHARPNESS_G)
        # All older lists lose some weight; then the new ones are added.
        keep = 0.5 ** (len(rows_B) / HALF_LIFE)
        self.curve = (keep * np.asarray(self.curve or 0.0) + curve_G).tolist()
        self.lists = keep * self.lists + len(rows_B)

    def sharpness(self) -> float:
        """The most likely sharpness, or the default while too few labels were seen."""
        if self.lists < ENOUGH:
            return UNBOUNDED_SPREAD
        return lowest(SHARPNESS_G, np.asarray(self.curve))


def lowest(sharpness_G: npt.NDArray[np.float64], curve_G: npt.NDArray[np.float64]) -> float:
    """Where a convex curve is lowest, from its values on a geometric grid.

    A parabola goes through the lowest point and its two neighbours, in log β. The answer is where this parabola is
    lowest.

    Example:
        >>> grid = np.geomspace(0.1, 10, 9)
        >>> round(lowest(grid, (np.log(grid) - 0.3) ** 2), 3) == round(math.exp(0.3), 3)
        True
    """
    best = int(np.argmin(curve_G))
    if best in (0, len(curve_G) - 1):
        return float(sharpness_G[best])
    left, middle, right = curve_G[best - 1 : best + 2]
    step = float(np.log(sharpness_G[best + 1] / sharpness_G[best]))
    bend = left - 2 * middle + right
    return float(sharpness_G[best] * math.exp(step * (left - right) / (2 * bend) if bend > 0 else 0.0))

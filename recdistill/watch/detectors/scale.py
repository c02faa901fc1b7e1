"""Scale: do the teacher's scores still have the same middle and the same spread?

It follows the median of each list and the mean distance from it. A jump accuses nobody, because lists are made
comparable anyway. It is reported, because the owner of the teacher should know.

It knows nothing of orders, of the student or of labels.

Example:
    >>> Scale().notice
    'normalised'
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from msgspec import Struct, field

from recdistill.watch.detectors.contract import Finding
from recdistill.watch.figures import ENOUGH, HALF_LIFE, LONG_RUN, RUN, Figure
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import Array

SPREAD_JUMP = math.log(4)
"""The shift that a spread is tested for, in logs. The spread must have at least doubled or halved, which the lists of
one user seldom do. A smaller change does not matter.
"""


class Scale(Struct):
    """Notices that scores have jumped to another middle or spread."""

    notice: ClassVar[str] = "normalised"
    sure: ClassVar[bool] = False
    location: Figure = field(default_factory=Figure)
    spread: Figure = field(default_factory=Figure)
    """Of the logs of the spreads."""

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """See `Detector`."""
        if not seen.lists:
            return None
        at_B = seen.at_B[seen.first_B]
        location_B, spread_B = seen.place_and_spread
        spread_B = spread_B[np.isfinite(spread_B)]
        whole = location_B, spread_B
        found = None
        if self.location.weight >= ENOUGH and self.spread.weight >= ENOUGH:
            usual = math.exp(self.spread.mean)
            unit = max(self.location.sd, usual)
            spread_sd = max(self.spread.sd, SPREAD_JUMP / 2)
            # One list far out is no jump, and must not change the reference much.
            location_B = _clipped(location_B, self.location.mean, 4 * unit)
            spread_B = _clipped(spread_B, self.spread.mean, 4 * spread_sd)
            jumped = False
            for figure, values, shift, sd in (
                (self.location, location_B, 2 * unit, unit),
                (self.spread, spread_B, SPREAD_JUMP, spread_sd),
            ):
                if not quiet:
                    jumped |= figure.falls(values, shift, sd, at_B, LONG_RUN)
                    jumped |= figure.rises(values, shift, sd, at_B, LONG_RUN)
            if jumped:
                # The older lists of this batch may still have the old scale: take the newest ones only.
                location_B, spread_B = whole[0][-RUN:], whole[1][-RUN:]
                new_location = float(np.median(location_B))
                new_spread = math.exp(np.median(spread_B)) if len(spread_B) else 0.0  # all scores of a list are equal
                why = (
                    f"its scores were at {self.location.mean:.3g} ± {usual:.3g} "
                    f"and are now at {new_location:.3g} ± {new_spread:.3g}"
                )
                found = Finding(why, int(seen.at_B[-1]))
                self.location, self.spread = Figure(), Figure()
        self.location.add(location_B, HALF_LIFE)
        self.spread.add(spread_B, HALF_LIFE)
        if quiet:
            self.drop()
        return found

    def drop(self) -> None:
        """See `Detector`."""
        for figure in (self.location, self.spread):
            figure.drop()


def _clipped(values: Array, middle: float, reach: float) -> Array:
    return np.clip(values, middle - reach, middle + reach)

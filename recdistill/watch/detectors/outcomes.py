"""Outcomes: are labels still as many as they were, at the same places, and as late?

It follows the share of lists with a label among those whose labels are known, the place of the first item that was
taken, and the time from a list to its labels, counted by the lists' own times. A fall of the rate may be a broken join.
A change of the places may be a change of the page.

It knows nothing of teachers or of the student.

Example:
    >>> Outcomes().figures()
    {}
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from msgspec import Struct, field

from recdistill.watch.arrived import Arrived
from recdistill.watch.cells import BLOCK, Cells
from recdistill.watch.detectors.contract import ALPHA, Finding, since_first
from recdistill.watch.detectors.inputs import CELLS
from recdistill.watch.level import Level

RATE = 0.02
"""The smallest change that matters in the share of lists with a label."""

DELAY = 0.5
"""The smallest change that matters in the delay, in powers of two: about four tenths longer."""

PART = 4
"""The places are compared in blocks that are so many times smaller than others."""


class Outcomes(Struct):
    """Notices that labels come otherwise than before."""

    notice: ClassVar[str] = "drift_labels"
    rate: Level = field(default_factory=Level)
    places: Cells = field(default_factory=Cells)
    delay: Level = field(default_factory=Level)
    """Of log2(1 + seconds)."""
    clock_us: int = 0
    """Time of the newest list so far."""

    def observe(self, arrived: Arrived, *, block: int = BLOCK) -> Finding | None:
        """See `Drift`."""
        known_B = arrived.lists.label_known_B
        at_B = arrived.at
        whys: list[str] = []
        onsets: list[int] = []
        taken_B = arrived.taken > 0
        rate = self.rate.add(taken_B[known_B].astype(np.float64), at_B[known_B], least=RATE, block=block)
        if rate is not None:
            whys.append(f"lists with a label ({rate.usual:.0%} before, now {rate.now:.0%})")
            onsets.append(rate.since)
        some_B = known_B & taken_B
        places_B = np.minimum(arrived.positions, CELLS - 1)
        # Few lists have a label. Smaller blocks find a new page sooner.
        moved = self.places.add(places_B[some_B], at_B[some_B], alpha=ALPHA, block=max(1, block // PART))
        if moved is not None:
            low, high = moved.reference
            whys.append(f"places of what was taken (stability index {moved.index:.2f} against lists {low} to {high})")
            onsets.append(moved.since)
        if arrived.times_B is not None:
            times_B = arrived.times_B
            new_B = arrived.new
            clock_B = np.maximum.accumulate(np.where(new_B, times_B, 0))
            clock_B = np.maximum(clock_B, self.clock_us)
            late_B = known_B & ~new_B & (times_B > 0) & (clock_B > 0)
            seconds_B = np.maximum(clock_B - times_B, 0) / 1e6
            delay = self.delay.add(np.log2(1 + seconds_B[late_B]), at_B[late_B], least=DELAY, block=block)
            self.clock_us = int(clock_B[-1]) if len(clock_B) else self.clock_us
            if delay is not None:
                before_s, now_s = 2**delay.usual - 1, 2**delay.now - 1
                whys.append(f"time from a list to its labels ({before_s:.0f} s before, now {now_s:.0f} s)")
                onsets.append(delay.since)
        return since_first(whys, onsets)

    def figures(self) -> dict[str, float]:
        """See `Drift`."""
        found = {"rate": self.rate.now} if self.rate.late else {}
        found |= {"places": self.places.index} if self.places.asked or self.places.index else {}
        return found | ({"delay_s": 2**self.delay.now - 1} if self.delay.late else {})

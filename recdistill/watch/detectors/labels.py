"""Labels: does the teacher still rank items that were taken above items that were not?

It follows the share of pairs (taken, not taken) of a list that the teacher puts in the right order. Labels also change
when tastes or lists change. So this detector is quiet where the student knows the teacher well.

It knows nothing of the student.

Example:
    >>> Labels().sure
    False
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from recdistill.watch.detectors.contract import Finding
from recdistill.watch.figures import LONG_RUN, Figure, breaks, learns
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_PAIRS


class Labels(Struct):
    """Notices that a teacher no longer agrees with labels."""

    notice: ClassVar[str] = ""
    sure: ClassVar[bool] = False
    reference: Figure = field(default_factory=Figure)
    """The usual share of pairs."""

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """See `Detector`."""
        if quiet:
            learns(self.reference, seen.pairs)
        elif breaks(self.reference, seen.pairs, CHANCE_PAIRS, seen.at_B, LONG_RUN):
            why = f"it put what was taken above the rest in {self.reference.mean:.0%} of pairs, and no longer does"
            return Finding(why, self.reference.low_onset)
        return None

    def drop(self) -> None:
        """See `Detector`."""
        self.reference.drop()

"""Order: does the teacher still agree with the student?

It follows the rank correlation between the teacher's scores and the student's scores of the same list. The student has
learnt from this teacher, so they agree. When they no longer agree, the teacher has changed.

It knows nothing of labels.

Example:
    >>> Order(reference=Figure(weight=500, total=300, squares=200)).sure  # 0.6, give or take 0.2
    True
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from recdistill.watch.detectors.contract import Finding
from recdistill.watch.figures import Figure, breaks, learns, lift_of
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_ORDER

SURE = 0.5
"""The student knows a teacher well when their usual agreement is this many standard deviations above chance."""


class Order(Struct):
    """Notices that a teacher no longer agrees with the student."""

    notice: ClassVar[str] = ""
    reference: Figure = field(default_factory=Figure)
    """The usual rank correlation."""

    @property
    def sure(self) -> bool:
        """Whether the student knows this teacher well. The student is then more reliable than labels."""
        return lift_of(self.reference, CHANCE_ORDER) >= SURE

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """See `Detector`."""
        if quiet:
            learns(self.reference, seen.order)
        elif breaks(self.reference, seen.order, CHANCE_ORDER, seen.at_B):
            why = f"its order agreed with the student at {self.reference.mean:.2f}, and no longer does"
            return Finding(why, self.reference.low_onset)
        return None

    def drop(self) -> None:
        """See `Detector`."""
        self.reference.drop()

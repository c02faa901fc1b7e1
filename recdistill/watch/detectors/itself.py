"""Itself: does the teacher still answer as it did at first?

The scorer asks some of the teacher's first requests again, and writes on each ranking how well the new answers agree
with the first ones. This is the best witness: neither tastes nor the student have a part in it. While a teacher agrees
with itself, no other detector may accuse it. Where nobody asked it again, this detector says nothing.

It knows nothing of how a teacher is asked again.

Example:
    >>> Itself(last=1.0).sure, Itself(last=0.3).sure, Itself().sure
    (True, False, False)
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from msgspec import Struct

from recdistill.watch.detectors.contract import Finding
from recdistill.watch.figures import RUN
from recdistill.watch.observation import Seen

ALIKE = 0.95
"""With at least this rank correlation, a teacher answers as it did at first."""

OTHER = 0.5
"""Below this it is another teacher."""


class Itself(Struct):
    """Notices that a teacher no longer gives the answers that it gave at first."""

    notice: ClassVar[str] = ""
    last: float | None = None
    """The lowest agreement in the newest batch; None: nobody asked."""
    run: int = 0
    """Lists in a row that came from another teacher."""
    onset: int = 0
    accepted: bool = False
    """Whether the new answers passed a trial: then they accuse nobody, until the teacher is as it was at first."""

    @property
    def sure(self) -> bool:
        """Whether it answers as it did at first."""
        return self.last is not None and self.last >= ALIKE

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """See `Detector`."""
        if not seen.lists:
            return None
        asked_B = np.isfinite(seen.agreement_B)
        # A ranking holds 32-bit numbers: what was written as 0.95 is read as 0.94999999.
        agreement_A = seen.agreement_B[asked_B].round(4).tolist()
        self.last = min(agreement_A, default=None)
        self.accepted = self.accepted and not self.sure
        for at, agreement in zip(seen.at_B[asked_B].tolist(), agreement_A, strict=True):
            if agreement >= OTHER or self.accepted:
                self.run = 0
                continue
            self.onset = at if self.run == 0 else self.onset
            self.run += 1
            if self.run >= RUN and not quiet:
                return Finding(f"asked again, it agrees with its own first answers at {agreement:.2f}", self.onset)
        if quiet:
            self.drop()
        return None

    def accept(self) -> None:
        """Takes the present answers as good, whatever the first ones were."""
        self.accepted = self.last is not None and not self.sure
        self.run = 0

    def drop(self) -> None:
        """See `Detector`."""
        self.run = 0

"""Agreement: does the student still know its teachers' order as well as it did?

It follows the rank correlation between the scores of the teachers and those of the student, before the student learns
from the list. While the student learns, it rises. When it falls, tastes or items have moved away from what the student
knows, or a teacher has changed: `order` follows each teacher for itself, and accuses it only of a break.

It knows nothing of labels.

Example:
    >>> Agreement().figures()
    {}
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from recdistill.watch.arrived import Arrived
from recdistill.watch.cells import BLOCK
from recdistill.watch.detectors.contract import Finding
from recdistill.watch.level import Level

LEAST = 0.05
"""The smallest fall that matters."""


class Agreement(Struct):
    """Notices that the student knows its teachers less well than it did."""

    notice: ClassVar[str] = "drift_agreement"
    level: Level = field(default_factory=Level)

    def observe(self, arrived: Arrived, *, block: int = BLOCK) -> Finding | None:
        """See `Drift`."""
        fell = self.level.add(arrived.agreement, arrived.at, least=LEAST, rises=False, block=block)
        if fell is None:
            return None
        return Finding(f"rank correlation with the teachers ({fell.usual:.2f} before, now {fell.now:.2f})", fell.since)

    def figures(self) -> dict[str, float]:
        """See `Drift`."""
        return {"agreement": self.level.now} if self.level.late else {}

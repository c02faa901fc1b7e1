"""Chance: was the teacher ever better than chance?

The other detectors compare a teacher with its own past. A teacher that was random from the start has no such past. This
detector collects rank correlations and shares of pairs until one of them is a reference. Then the teacher is proven,
and the detector has nothing more to do. A teacher that is surely no better than chance after 1,000 lists and 50 batches
is accused.

It knows nothing of the detectors that follow a proven teacher.

Example:
    >>> Chance(proven=True).sure
    False
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from recdistill.watch.detectors.contract import Finding
from recdistill.watch.figures import ENOUGH, Figure, hopeless, learns, watched
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS

FOUNDING = 1_000
"""After so many lists a first teacher is judged."""

FOUNDING_BATCHES = 50
"""The student gets so many batches to learn a first teacher's order."""

HOPELESS = 0.05
"""A teacher is no better than chance when its rank correlation is surely below this, and its share of pairs is surely
below 0.5 plus half of this.
"""


class Chance(Struct):
    """Notices a teacher that never was better than chance."""

    notice: ClassVar[str] = ""
    sure: ClassVar[bool] = False
    proven: bool = False
    """Whether the teacher has been better than chance, by student or labels."""
    lists: int = 0
    batches: int = 0
    order: Figure = field(default_factory=Figure)
    labels: Figure = field(default_factory=Figure)

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """See `Detector`."""
        if self.proven:
            return None
        self.lists += seen.lists
        self.batches += seen.lists > 0
        learns(self.order, seen.order)
        learns(self.labels, seen.pairs)
        if watched(self.order, CHANCE_ORDER) or watched(self.labels, CHANCE_PAIRS):
            self.prove()
        elif not quiet and self._hopeless():
            return Finding(
                f"after {self.lists} lists neither labels nor student agree with its order better than with chance"
            )
        return None

    def prove(self) -> None:
        """Takes the teacher as proven. What was collected is no longer needed."""
        self.proven, self.lists, self.batches, self.order, self.labels = True, 0, 0, Figure(), Figure()

    def drop(self) -> None:
        """See `Detector`."""

    def _hopeless(self) -> bool:
        """Whether the teacher is surely no better than chance, once the student has had time to find its order."""
        if self.lists < FOUNDING or self.batches < FOUNDING_BATCHES:
            return False
        by_labels = self.labels.weight < ENOUGH or hopeless(self.labels, CHANCE_PAIRS, HOPELESS / 2)
        return by_labels and hopeless(self.order, CHANCE_ORDER, HOPELESS)

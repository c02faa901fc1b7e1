"""The list of all detectors that follow a teacher, and the order in which they are asked.

It knows nothing of what is done about a finding.

Example:
    >>> [name for name, detector in Detectors()]
    ['scale', 'itself', 'order', 'labels', 'chance']
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from recdistill.watch.detectors.chance import Chance
from recdistill.watch.detectors.contract import Detector, Finding
from recdistill.watch.detectors.itself import Itself
from recdistill.watch.detectors.labels import Labels
from recdistill.watch.detectors.order import Order
from recdistill.watch.detectors.scale import Scale
from recdistill.watch.figures import Figure, watched
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS


class Detectors(Struct):
    """One of each, for one teacher.

    The order of the fields counts: where several accuse at once, the first one gives the reason. A checkpoint from
    before a detector was added has no state of it. Then the detector starts fresh.
    """

    scale: Scale = field(default_factory=Scale)
    itself: Itself = field(default_factory=Itself)
    order: Order = field(default_factory=Order)
    labels: Labels = field(default_factory=Labels)
    chance: Chance = field(default_factory=Chance)

    def __iter__(self) -> Iterator[tuple[str, Detector]]:
        for name in self.__struct_fields__:
            yield name, getattr(self, name)

    def notices(self, seen: Seen) -> list[tuple[str, Detector, Finding]]:
        """Shows a batch to the detectors that only report. Returns those that found something, and what they found."""
        found = ((name, each, each.observe(seen)) for name, each in self if each.notice)
        return [(name, each, finding) for name, each, finding in found if finding is not None]

    def accusation(self, seen: Seen) -> tuple[str, Finding] | None:
        """Shows a batch to the detectors that may accuse the teacher.

        Returns the first that does, and what it found.
        """
        first: tuple[str, Finding] | None = None
        quiet = False
        for name, each in self:
            if not each.notice:
                finding = each.observe(seen, quiet=quiet)
                if finding is not None and first is None:
                    first = name, finding
                # A detector that knows the teacher well is more reliable, so those after it only learn.
                quiet = quiet or each.sure
        return first

    def drop(self) -> None:
        """Resets every suspicion against the teacher."""
        for _, each in self:
            if not each.notice:
                each.drop()

    def renew(self, order: Figure, labels: Figure) -> None:
        """After a passed trial, takes its figures as references where the old reference is of no use."""
        # A student that has moved away agrees less. Against the old reference, the teacher would be accused
        # again at once.
        before = self.order.reference
        if not watched(before, CHANCE_ORDER) or order.mean < 0.75 * before.mean:
            self.order.reference = order
        if not watched(self.labels.reference, CHANCE_PAIRS):
            self.labels.reference = labels
        self.chance.prove()
        self.itself.accept()

"""The detectors that every teacher is followed by: the one list of them, and who is asked when.

It knows nothing of what is done about a finding.

Example:
    >>> [name for name, detector in Detectors()]
    ['scale', 'order', 'labels', 'chance']
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from recdistill.watch.detectors.chance import Chance
from recdistill.watch.detectors.contract import Detector, Finding
from recdistill.watch.detectors.labels import Labels
from recdistill.watch.detectors.order import Order
from recdistill.watch.detectors.scale import Scale
from recdistill.watch.figures import Figure, watched
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS


class Detectors(Struct):
    """One of each, for one teacher.

    The order of the fields counts: of several that accuse at once the first one gives the reason. A checkpoint of
    before a detector was added has no state of it, and the detector then starts fresh.
    """

    scale: Scale = field(default_factory=Scale)
    order: Order = field(default_factory=Order)
    labels: Labels = field(default_factory=Labels)
    chance: Chance = field(default_factory=Chance)

    def __iter__(self) -> Iterator[tuple[str, Detector]]:
        for name in self.__struct_fields__:
            yield name, getattr(self, name)

    def notices(self, seen: Seen) -> list[tuple[str, Detector, Finding]]:
        """Shows a batch to the detectors that accuse nobody; those that found something, and what."""
        found = ((name, each, each.observe(seen)) for name, each in self if each.notice)
        return [(name, each, finding) for name, each, finding in found if finding is not None]

    def accusation(self, seen: Seen) -> tuple[str, Finding] | None:
        """Shows a batch to the detectors that may accuse the teacher; the first that does, and what it found."""
        first: tuple[str, Finding] | None = None
        quiet = False
        for name, each in self:
            if not each.notice:
                finding = each.observe(seen, quiet=quiet)
                if finding is not None and first is None:
                    first = name, finding
                # One that knows the teacher well is the better witness, so those after it only learn.
                quiet = quiet or each.sure
        return first

    def drop(self) -> None:
        """Drops every suspicion against the teacher."""
        for _, each in self:
            if not each.notice:
                each.drop()

    def renew(self, order: Figure, labels: Figure) -> None:
        """Takes over what was usual during a trial that the teacher has passed, where the old reference is no use."""
        # Held against what it was before, a student that has moved away would at once accuse it again.
        before = self.order.reference
        if not watched(before, CHANCE_ORDER) or order.mean < 0.75 * before.mean:
            self.order.reference = order
        if not watched(self.labels.reference, CHANCE_PAIRS):
            self.labels.reference = labels
        self.chance.prove()

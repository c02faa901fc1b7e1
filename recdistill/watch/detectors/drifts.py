"""The list of all detectors that follow the stream itself, whoever scored it.

They only report: what a drift means for the student is decided elsewhere. Each finding stands in a sentence.

It knows nothing of what a single detector looks at.

Example:
    >>> [name for name, detector in Drifts()]
    ['inputs', 'outcomes', 'agreement']
    >>> TOLD["inputs"]
    'the inputs have drifted'
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from recdistill.watch.arrived import Arrived
from recdistill.watch.cells import BLOCK
from recdistill.watch.detectors.agreement import Agreement
from recdistill.watch.detectors.contract import Drift
from recdistill.watch.detectors.inputs import Inputs
from recdistill.watch.detectors.outcomes import Outcomes

TOLD = {
    "inputs": "the inputs have drifted",
    "outcomes": "the labels have drifted",
    "agreement": "the student knows its teachers less well than before",
}
"""How the sentence of a finding begins."""

KEPT = 8
"""So many findings are remembered."""


class Found(Struct, frozen=True):
    """A finding that is remembered."""

    detector: str
    why: str
    since: int
    """Number of the list where it began."""
    at: int
    """Number of the list after which it was found."""

    def __str__(self) -> str:
        return f"{TOLD.get(self.detector, self.detector)} from list {self.since} on: {self.why}"


class Drifts(Struct):
    """One of each. A checkpoint from before a detector was added has no state of it; then it starts fresh."""

    inputs: Inputs = field(default_factory=Inputs)
    outcomes: Outcomes = field(default_factory=Outcomes)
    agreement: Agreement = field(default_factory=Agreement)
    found: list[Found] = []
    """The newest findings, oldest first."""

    def __iter__(self) -> Iterator[tuple[str, Drift]]:
        for name in self.__struct_fields__:
            if name != "found":
                yield name, getattr(self, name)

    def observe(self, arrived: Arrived, *, block: int = BLOCK) -> list[tuple[Found, str]]:
        """Shows a batch to each detector. Returns what was found, and the name under which it is counted."""
        news = []
        for name, detector in self:
            finding = detector.observe(arrived, block=block)
            if finding is not None:
                at = int(arrived.at[-1]) + 1
                news.append(
                    (Found(name, finding.why, at if finding.since is None else finding.since, at), detector.notice)
                )
        if news:
            self.found = [*self.found, *(found for found, _ in news)][-KEPT:]
        return news

    def figures(self) -> dict[str, dict[str, float]]:
        """What each detector sees now, by its name; only of those that have seen enough."""
        return {name: figures for name, detector in self if (figures := detector.figures())}

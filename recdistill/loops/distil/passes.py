"""Several passes over a part of the lanes: which part it is, and the batches that are kept for the next pass.

An encoded batch is the same in the next pass, as long as the catalogue has not changed and no row has moved. So batches
are kept in memory while there is room. A batch that was not kept is read and encoded again, and gives the same bytes.

It knows nothing of torch or of how a step learns.

Example:
    >>> from recdistill.stream import LogIdentity
    >>> identity = LogIdentity("a", {"examples": 2})
    >>> start, until = LanePosition(identity, (0, 3), 1), LanePosition(identity, (10, 13), 0)
    >>> whole = Range(passes=2, start=start, until=until)
    >>> whole.length(), whole.again, whole.another
    (20, False, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from recdistill.records import Impression
from recdistill.stream import LanePosition

if TYPE_CHECKING:
    from recdistill.features import AsOf
    from recdistill.train import Batch


def passed(position: LanePosition) -> int:
    """The offsets added up: how far it is, for a bar."""
    return sum(position.offsets)


class Range(Struct):
    """A part of the lanes that is gone over `passes` times before the stream goes on.

    Attributes:
        passes: How often.
        start: Where each pass begins.
        until: Where each pass ends.
        done: How many passes are behind us.
    """

    passes: int
    start: LanePosition
    until: LanePosition
    done: int = 0

    def length(self) -> int:
        """Positions of one pass."""
        return passed(self.until) - passed(self.start)

    @property
    def again(self) -> bool:
        """Whether a later pass is being made."""
        return self.done > 0

    @property
    def another(self) -> bool:
        """Whether there is one more pass behind this one."""
        return self.done + 1 < self.passes


class Step(NamedTuple):
    """A step that was made and can be made once more."""

    batch: Batch
    items_next: int
    """What the catalogue had seen."""
    golden: list[Impression]
    after: LanePosition
    """Where the lanes stood behind it."""


class KeptSteps:
    """Steps by the position that they began at.

    Args:
        limit_bytes: How much memory their arrays may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._bytes = limit_bytes, 0
        self._steps: dict[tuple[int, ...], Step] = {}

    def keep(self, before: LanePosition, step: Step) -> None:
        """Keeps a step, unless the memory is used up."""
        self._bytes += step.batch.nbytes
        if self._bytes <= self._limit_bytes:
            self._steps[_key(before)] = step

    def find(self, before: LanePosition, items_next: int, as_of: AsOf) -> Step | None:
        """The step that began here; None when it was not kept, or when the catalogue or a row has moved since."""
        step = self._steps.get(_key(before))
        return step if step is not None and (step.items_next, step.batch.as_of) == (items_next, as_of) else None

    def clear(self) -> None:
        """Gives the memory back."""
        self._steps.clear()
        self._bytes = 0


def _key(position: LanePosition) -> tuple[int, ...]:
    """A position in the one log, as a key."""
    return (*position.offsets, position.turn)

"""What every detector offers to the watch.

A detector is a msgspec `Struct`. Its fields are its state, and a checkpoint holds them as JSON. It has no other memory:
its answer depends only on its fields and on the lists that it is shown.

It knows nothing of any single detector.

Example:
    >>> Finding("its scores are all equal", since=7)
    Finding(why='its scores are all equal', since=7)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from recdistill.watch.observation import Seen


@dataclass(frozen=True)
class Finding:
    """A change that a detector has found in a teacher."""

    why: str
    """Part of a sentence about the teacher, after "teacher t@1 is quarantined: "."""
    since: int | None = None
    """Number of the list where the change began; None: from the teacher's first list on."""


class Detector(Protocol):
    """Follows one quantity of one teacher."""

    notice: ClassVar[str]
    """The name under which findings are counted, for a detector that only reports; "" for one that accuses the
    teacher.
    """

    @property
    def sure(self) -> bool:
        """Whether it knows the teacher so well that the detectors after it need not judge. They are then quiet."""
        ...

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """Looks at a batch.

        Args:
            seen: The teacher's lists, in the order of the stream.
            quiet: Whether to only learn what is usual: it finds nothing, and resets any suspicion.

        Returns:
            What was found, from these lists and all lists before them; None: nothing.
        """
        ...

    def drop(self) -> None:
        """Resets any suspicion. What is usual for the teacher stays known."""
        ...

"""What every detector offers to the watch: those of a teacher, and those of the stream itself.

A detector is a msgspec `Struct`. Its fields are its state, and a checkpoint holds them as JSON. It has no other memory:
its answer depends only on its fields and on the lists that it is shown.

It knows nothing of any single detector.

Example:
    >>> Finding("its scores are all equal", since=7)
    Finding(why='its scores are all equal', since=7)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from recdistill.watch.arrived import Arrived
from recdistill.watch.observation import Seen

ALPHA = 0.01
"""A detector of drift that compares windows is wrong at most once in so many references, however long each lives."""


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
    """The name under which findings are counted, for a detector that only reports; "" for one that
    accuses the teacher.
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


class Drift(Protocol):
    """Follows quantities of the stream itself, whoever scored it. It only reports."""

    notice: ClassVar[str]
    """The name under which findings are counted."""

    def observe(self, arrived: Arrived, *, block: int) -> Finding | None:
        """Looks at a batch.

        Args:
            arrived: The lists, in the order of the stream.
            block: How many values are put together before they are looked at. A reference has 40 such blocks, and each
                window that is compared with it has 10.

        Returns:
            What has drifted, the first time that it is sure. Then what is usual is learnt anew.
        """
        ...

    def figures(self) -> dict[str, float]:
        """What it sees now, by the name of the quantity; nothing of what it has not seen enough of."""
        ...


def since_first(whys: Sequence[str], onsets: Sequence[int]) -> Finding | None:
    """One finding of several quantities; None where there is none.

    Example:
        >>> since_first(["items", "actions"], [9, 7])
        Finding(why='items; actions', since=7)
    """
    return Finding("; ".join(whys), min(onsets)) if whys else None

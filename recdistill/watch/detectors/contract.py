"""What every detector offers to the watch.

A detector is a msgspec `Struct`: its fields are its state, which a checkpoint holds as JSON. So it has no other memory,
and what it answers depends on its fields and on what it is shown alone.

It knows nothing of any one detector.

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
    """Number of the list where the change began; None: it was so from the teacher's first list on."""


class Detector(Protocol):
    """Follows one quantity of one teacher."""

    notice: ClassVar[str]
    """What a finding is counted as, where it is only told; "" for a detector whose finding accuses the teacher."""

    @property
    def sure(self) -> bool:
        """Whether it knows the teacher so well that the detectors after it need not judge: they are made quiet."""
        ...

    def observe(self, seen: Seen, *, quiet: bool = False) -> Finding | None:
        """Takes in a batch.

        Args:
            seen: The teacher's lists, in the order of the stream.
            quiet: Only learn from them what is usual; find nothing, and drop any suspicion.

        Returns:
            What was found in the light of these lists and all before them; None: nothing.
        """
        ...

    def drop(self) -> None:
        """Drops any suspicion; what is usual for the teacher stays known."""
        ...

"""When a student is made anew after a drift, and from where in the log it then learns.

While a student learns, places of the log are marked, so that the newest examples can be found again. When a drift is
found, the student begins anew at the mark before its newest examples, and learns up to where it stands. Then the stream
goes on. Until so many new examples were learnt, no other drift makes it anew once more.

It knows nothing of how a student learns, or of what a drift is.

Example:
    >>> from recdistill.stream import LogIdentity
    >>> at = lambda n: LanePosition(LogIdentity("a", {"examples": 1}), (n,), 0)
    >>> marks: list[Mark] = []
    >>> for n in range(0, 1000, 50):
    ...     marks = marked(marks, Mark(n, n, at(n)), 400)
    >>> [mark.examples for mark in marks]  # one before the newest 400, and those behind it
    [550, 600, 650, 700, 750, 800, 850, 900, 950]
    >>> start_of(marks, learnt=1000, rebuilt=0, examples=400).examples
    600
    >>> start_of(marks, learnt=1000, rebuilt=700, examples=400) is None
    True
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from recdistill.stream import LanePosition

PARTS: Final = 8
"""So many marks lie in the examples that a student is made anew from."""


class Mark(Struct, frozen=True):
    """A place of the log that the student has passed.

    Attributes:
        examples: How many it had learnt there.
        lists: How many lists its watch had seen there.
        lanes: The place.
    """

    examples: int
    lists: int
    lanes: LanePosition


def marked(marks: list[Mark], here: Mark, examples: int) -> list[Mark]:
    """The marks with a new one, where it is due; those that are no longer needed are gone.

    Args:
        marks: Oldest first.
        here: Where the student stands.
        examples: From how many of the newest examples it would be made anew.
    """
    if marks and here.examples - marks[-1].examples < max(1, examples // PARTS):
        return marks
    found = [*marks, here]
    while len(found) > 1 and found[1].examples <= here.examples - examples:
        found = found[1:]
    return found


def start_of(marks: list[Mark], *, learnt: int, rebuilt: int, examples: int) -> Mark | None:
    """Where a student begins anew; None where it was made anew too short a while ago, or no place is known.

    Args:
        marks: Oldest first.
        learnt: Examples that it has learnt.
        rebuilt: How many it had learnt when it was made anew last; 0: never.
        examples: From how many of the newest examples it is made anew.
    """
    if not marks or (rebuilt and learnt - rebuilt < examples):
        return None
    before = [mark for mark in marks if mark.examples <= learnt - examples]
    return before[-1] if before else marks[0]

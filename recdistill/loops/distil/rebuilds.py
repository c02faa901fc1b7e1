"""When a student is made anew, and from where in the log it then learns.

While a student learns, places of the log are marked, so that the newest examples can be found again. When a drift is
found, the student begins anew at the mark before its newest examples, and learns up to where it stands. Then the stream
goes on. Until so many new examples were learnt, no other drift makes it anew once more.

For a person who asks, places are noted all the time (`passed_by`): the more the farther back, the fewer. The lanes are
read in turn, so only such a place is one from which all of the rest is read in the same order.

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

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from recdistill.stream import LanePosition, TopicPartition

_APART: Final = 1.2
"""Two places that are noted lie so much farther back than the next one, about: newest so many, up to a fifth."""

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


def passed_by(places: list[Mark], here: Mark) -> list[Mark]:
    """The places that are noted, with a new one. There are some eight for each doubling of what was learnt.

    Example:
        >>> from recdistill.stream import LogIdentity
        >>> at = lambda n: LanePosition(LogIdentity("a", {"examples": 1}), (n,), 0)
        >>> places: list[Mark] = []
        >>> for n in range(0, 1000, 50):
        ...     places = passed_by(places, Mark(n, n, at(n)))
        >>> [place.examples for place in places]
        [0, 100, 200, 300, 400, 450, 500, 550, 600, 650, 700, 750, 800, 850, 900, 950]
    """
    if places and here.examples <= places[-1].examples:
        return places
    found = [*places, here]
    at = 1
    while at < len(found) - 1:
        before, after = here.examples - found[at - 1].examples, here.examples - found[at + 1].examples
        if before <= _APART * after:
            del found[at]
        else:
            at += 1
    return found


def place_for(
    places: Sequence[Mark], *, held: Mapping[TopicPartition, int], wanted: Mapping[TopicPartition, int]
) -> Mark | None:
    """The newest place that lies before what a person wants, of those that the log still holds.

    Args:
        places: Oldest first.
        held: Where the log begins.
        wanted: Where the person wants the student to begin.

    Returns:
        The oldest one that is there, if none lies before it; None if the log holds none of them.
    """
    there = [one for one in places if all(offset >= held[tp] for tp, offset in one.lanes.by_partition().items())]
    before = [one for one in there if all(offset <= wanted[tp] for tp, offset in one.lanes.by_partition().items())]
    return before[-1] if before else there[0] if there else None

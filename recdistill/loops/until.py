"""The part of a log that a student may learn, when a person says where it ends. The rest is left to judge on.

It knows nothing of students.

Example:
    >>> Learnt.__struct_fields__
    ('position', 'sentence')
"""

from __future__ import annotations

import logging

from msgspec import Struct

from recdistill.errors import DataError
from recdistill.stream import LanePosition, Log, Place, cut_at, write_position, write_time

log_ = logging.getLogger(__name__)


class Learnt(Struct, frozen=True):
    """The learnt part: where it ends, and a sentence about it."""

    position: LanePosition
    sentence: str


def learnt_part(log: Log, place: Place) -> Learnt:
    """Finds the place in the examples.

    Args:
        log: The log.
        place: What was typed.

    Raises:
        DataError: Nothing lies before the place, or no list is of that time or later.
        OutOfRange: The log does not hold the position.
        UsageError: The position does not name each lane.
    """
    cut = cut_at(log, place)
    position = write_position(cut.position.by_partition())
    if place.time_us is not None and not cut.inside:
        newest = f"the latest list is of {write_time(cut.newest_us)}" if cut.newest_us else "there is no example yet"
        raise DataError(
            f"--until {place.text}: no example has a list of that time or later ({newest}), so nothing would be left "
            "to judge on; give an earlier time, or learn all of it with --drain"
        )
    if not cut.some:
        raise DataError(
            f"--until {place.text}: no example comes before that place ({position}), so there is nothing to learn; "
            "give a later one, and look at the examples with `recdistill inspect examples`"
        )
    if 2 * cut.late > cut.looked:
        log_.warning(
            "--until %s: %d of the next %d examples have earlier lists, so a list with a wrong time may stand before "
            "them; give a position instead, as `recdistill inspect examples` shows it",
            place.text,
            cut.late,
            cut.looked,
        )
    what = "" if place.time_us is None else f" (lists before {write_time(place.time_us)})"
    return Learnt(
        cut.position,
        f"learnt: up to {position}{what}; what lies behind it is left to judge on: `recdistill evaluate`. Another "
        f"student learns the same part with --until {position}",
    )

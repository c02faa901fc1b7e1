"""Where a time or a position that a person typed lies in the one order of the examples.

A time is compared with the time of the lists. The place is before the first example whose list is of that time or
later. So nothing before the place is of later lists. Lists that came late may lie behind the place; they are counted,
because many of them mean that one early record has a wrong time.

It knows nothing of students, or of what is done on each side of the place.

Example:
    >>> LOOKED
    2000
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from recdistill.errors import OutOfRange
from recdistill.stream.contract import Log, Message
from recdistill.stream.lanes import LanePosition, Lanes
from recdistill.stream.place import Place

LOOKED: Final = 2000
"""How many examples behind the place are looked at for lists that came late."""

_READ: Final = 500


class Cut(Struct, frozen=True):
    """A place in the one order.

    Attributes:
        position: The place, for `Lanes.next(until=)`.
        inside: Whether the log holds an example behind it.
        some: Whether the log holds an example before it.
        newest_us: Time of the latest list before it. 0: there is none, or a position was typed.
        late: How many of the next examples have lists that are older than the time.
        looked: How many examples behind it were looked at.
    """

    position: LanePosition
    inside: bool
    some: bool = True
    newest_us: int = 0
    late: int = 0
    looked: int = 0


def cut_at(log: Log, place: Place, topic: str = "examples") -> Cut:
    """Finds a place.

    Args:
        log: The log.
        place: What was typed: a time or a position.
        topic: Topic whose partitions are the lanes.

    Raises:
        OutOfRange: The position is outside of what the log holds.
        UsageError: The position does not name each lane.
    """
    lanes = Lanes(log, topic, dead_letters=_pass_over)
    try:
        return _at_position(lanes, place) if place.time_us is None else _at_time(lanes, place.time_us)
    finally:
        lanes.close()


def _at_position(lanes: Lanes, place: Place) -> Cut:
    begin, end = lanes.state(), lanes.end_state()
    wanted = {tp: place.offset(tp, lanes.count) for tp in end.by_partition()}
    for tp, offset in wanted.items():
        first, last = begin.by_partition()[tp], end.by_partition()[tp]
        if not first <= offset <= last:
            hint = "; write a time in seconds as @SECONDS" if offset >= 100_000_000 else ""
            raise OutOfRange(f"{place.text!r}: {tp} holds the offsets {first} to {last}, not {offset}{hint}")
    offsets = tuple(wanted[tp] for tp in sorted(wanted))
    return Cut(
        LanePosition(end.identity, offsets, begin.turn),
        inside=any(o < e for o, e in zip(offsets, end.offsets, strict=True)),
        some=offsets != begin.offsets,
    )


def _at_time(lanes: Lanes, time_us: int) -> Cut:
    begin, end, newest_us = lanes.state(), lanes.end_state(), 0
    while True:
        before = lanes.state()
        block = [each.ranking.impression.time_us for each in lanes.next(_READ, 0.2, until=end)]
        at = next((n for n, each in enumerate(block) if each >= time_us), None)
        newest_us = max([newest_us, *block[:at]])
        if at is not None:
            # Read again up to the example: a position counts whole turns, also of records that do not decode.
            lanes.seek(before)
            while at > 0:  # the log may not answer at once
                at -= len(lanes.next(at, 0.2, until=end))
            break
        if not block and lanes.reached(end):
            return Cut(lanes.state(), inside=False, some=newest_us > 0, newest_us=newest_us)
    position = lanes.state()
    late = looked = 0
    while looked < LOOKED:
        read = lanes.next(_READ, 0.2, until=end)
        if not read and lanes.reached(end):
            break
        # Labels alone come a window after their list. They say nothing of the order of the lists.
        block = [each.ranking.impression.time_us for each in read if each.label_state != "labels"]
        looked += len(read)
        late += sum(each < time_us for each in block)
    return Cut(position, inside=True, some=position != begin, newest_us=newest_us, late=late, looked=looked)


def _pass_over(message: Message, error: Exception) -> None:
    """Leaves out a record that cannot be read: whoever learns writes its dead letter."""

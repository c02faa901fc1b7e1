"""A place in a log, as a person types it: a word, a time, or a position. All verbs read it in the same way.

| typed | means |
| --- | --- |
| `beginning`, `latest` | where the log begins, where it ends now |
| `2026-01-31`, `2026-01-31T12:00:00Z` | TIME: ISO 8601; without a zone it is UTC |
| `@1769860800` | TIME: seconds since 1970 |
| `1200` | POSITION: the next offset, of a topic with one partition |
| `examples/0:1200,examples/1:1180` | POSITION: the next offset of each partition, as `recdistill inspect` names them |

A verb decides which of them it takes, and what a time is compared with.

It knows nothing of logs.

Example:
    >>> read_place("2026-01-31").time_us, read_place("@1.5").time_us
    (1769817600000000, 1500000)
    >>> place = read_place("examples/0:12,examples/1:9")
    >>> place.offset(TopicPartition("examples", 1)), write_position(place.offsets)
    (9, 'examples/0:12,examples/1:9')
    >>> read_place("7").offset(TopicPartition("examples", 0))
    7
    >>> read_place("yesterday")
    Traceback (most recent call last):
    recdistill.errors.UsageError: 'yesterday' is no place in a log: write a time (2026-01-31T12:00:00Z, or @SECONDS ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from recdistill.errors import UsageError
from recdistill.stream.contract import TopicPartition

PLACES: Final = (
    "a time (2026-01-31T12:00:00Z, or @SECONDS since 1970) or a position (examples/0:1200, or only 1200 where there is "
    "one partition)"
)
"""What may be typed, for errors and help."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""
_PART: Final = re.compile(r"(/?[A-Za-z0-9._-]+)/(\d{1,6}):(\d{1,18})")


class Place(Struct, frozen=True):
    """A place as it was typed. Exactly one of the others is set.

    Attributes:
        text: What was typed.
        word: `beginning` or `latest`.
        time_us: A time, in microseconds since 1970.
        offsets: Next offset of each partition that was named.
        lone: Next offset of the one partition of a topic that was not named.
    """

    text: str
    word: Literal["beginning", "latest"] | None = None
    time_us: int | None = None
    offsets: Mapping[TopicPartition, int] = {}
    lone: int | None = None

    def offset(self, tp: TopicPartition, partitions: int = 1) -> int:
        """The offset of a partition, where a position was typed.

        Args:
            tp: The partition.
            partitions: How many partitions its topic has.

        Raises:
            UsageError: The position does not name this partition.
        """
        if tp in self.offsets:
            return self.offsets[tp]
        if self.lone is not None and partitions == 1:
            return self.lone
        every = ",".join(f"{tp.topic}/{number}:OFFSET" for number in range(min(partitions, 3)))
        more = ",…" if partitions > 3 else ""
        raise UsageError(f"{self.text!r} does not say the offset of {tp}; write {every}{more}")


def read_place(text: str, *, words: bool = False) -> Place:
    """Reads what a person typed.

    Args:
        text: What was typed.
        words: Whether `beginning` and `latest` are places too.

    Raises:
        UsageError: It is no place.
    """
    asked = text.strip()
    if words and (asked == "beginning" or asked == "latest"):
        return Place(text, word="beginning" if asked == "beginning" else "latest")
    if asked.isascii() and asked.isdecimal() and len(asked) <= 18:
        return Place(text, lone=int(asked))
    time_us = _time(asked)
    if time_us is not None and 0 <= time_us <= _LAST_US:
        return Place(text, time_us=time_us)
    parts = [_PART.fullmatch(part.strip()) for part in asked.split(",")]
    found = {TopicPartition(part[1], int(part[2])): int(part[3]) for part in parts if part is not None}
    if len(found) == len(parts):
        return Place(text, offsets=found)
    first = "beginning, latest, " if words else ""
    shown = repr(text if len(text) <= 60 else text[:59] + "…")
    raise UsageError(f"{shown} is no place in a log: write {first}{PLACES}")


def write_position(position: Mapping[TopicPartition, int]) -> str:
    """A position as it can be typed again."""
    return ",".join(f"{tp.topic}/{tp.partition}:{position[tp]}" for tp in sorted(position))


def write_time(time_us: int) -> str:
    """A time as it can be typed again. One behind the year 9999, as a wrong clock writes it, is told in seconds."""
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return f"@{time_us // 1_000_000}"
    return moment.isoformat().replace("+00:00", "Z")


def _time(text: str) -> int | None:
    if text.startswith("@"):
        seconds = re.fullmatch(r"@(\d{1,12})(?:\.(\d{1,6}))?", text, re.ASCII)
        return None if seconds is None else int(seconds[1]) * 1_000_000 + int((seconds[2] or "").ljust(6, "0"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        return None

"""Finds records whose time is so far ahead of the others that they must not move a clock.

The joiner closes a list when the clock has passed its window. The clock is the greatest time that came. So one record
with a wrong time would close all lists, for good. A guard stands before the clock, one for each partition. It reads
the partition in its order and refuses a record that is ahead

* of the log: its time is more than the bound after the time when the log took it. One that comes from the past cannot
  be found in this way, since the log takes an import of old records today;
* of its neighbours: its time is more than the bound after the partition's clock, and the records behind it do not
  follow. A pause is not refused: after a pause the next records come from the new time too.

The bound is `max_ahead_s`, and in the second case also four of the usual steps of the clock. So it fits a partition
with a record a day as well as one with a thousand a second. A partition whose first records are all ahead of the log
has another notion of time than the log; there the second rule alone holds. So it does while the log's own time is
behind one that it had before: then it is the log's clock that went back, and not the records that are ahead.

The verdict depends on the partition's records and on the clock before them (`Clock`, which a stage saves with its
position). So a reader that starts again decides the same. Where the records behind are not there yet, there is no
verdict yet, unless the caller knows better. Records of one impression count once, since one wrong clock may have
written them all; only where more than a thousand of them wait do they decide themselves.

It knows nothing of windows or labels.

Example:
    >>> from recdistill.stream import TopicPartition
    >>> def at(offset, seconds):
    ...     place = TopicPartition("feedback", 0)
    ...     message = Message(place, offset, key=b"%d" % offset, value=b"", time_us=2_000_000_000 * 10**6)
    ...     return message, Feedback("f", f"list-{offset}", "a", "click", time_us=seconds * 10**6)
    >>> guard = Guard(max_ahead_s=600)
    >>> for offset in range(20):
    ...     guard.put(*at(offset, 1_000_000_000 + offset if offset != 3 else 1_400_000_000))
    >>> taken = [guard.pop() for _ in range(20) if guard.decided()]
    >>> [type(each.record).__name__ for each in taken[2:5]]
    ['Feedback', 'AheadOfTime', 'Feedback']
    >>> guard.clock.us
    1000000019000000
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Final, NamedTuple

from recdistill.errors import AheadOfTime, DecodeError
from recdistill.records import Feedback, Head, Impression, Item
from recdistill.stream import Message

log_ = logging.getLogger(__name__)

__all__ = ["AheadOfTime", "Clock", "Guard", "Timed", "Waiting"]

VOTERS: Final = 16
"""Most records behind one that are asked whether they follow it."""

NEEDED: Final = 8
"""So many of them must follow."""

NEEDED_AT_FIRST: Final = 4
"""So many must follow the first record of a partition, before which there is no clock."""

_STEPS: Final = 8
"""Last forward steps of a clock that are remembered, as powers of two."""

_FACTOR: Final = 4
"""So many usual steps of the clock are added to the bound."""

_DISORDER: Final = 10
"""So many usual steps back are added to it, where the records are out of order."""

_JITTER_US: Final = 1_000_000
"""Times of the log that are so little behind others are those of several writers, and not of a clock that went back."""

_MOST_FORCED: Final = 32
"""Verdicts that a caller may force before the place from which it would start again has passed them."""

MOST_ALIKE: Final = 1_024
"""Records of the same impression have a vote, too, where more than this wait, and the others are too few."""

_SYMBOLS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

Timed = Item | Impression | Head | Feedback


class Clock(NamedTuple):
    """What a guard knows of a partition before a record.

    Attributes:
        us: Greatest time that was not refused, in microseconds; below 0 before there was one.
        steps: How far it moved the last times, in powers of two, a letter each.
        log_time: Whether the log's own time counts.
        taken_us: Greatest time of the log at which this one moved; below 0 before there was one.
    """

    us: int = -1
    steps: str = ""
    log_time: bool = True
    taken_us: int = -1


START: Final = Clock()


@dataclass(slots=True)
class Waiting:
    """A message with what it holds, and the clock before it.

    Attributes:
        message: The message.
        record: What it holds, or why it cannot be used.
        time_us: Its time, in microseconds; None for a record without one.
        before: The clock before it.
    """

    message: Message
    record: Timed | DecodeError | AheadOfTime
    time_us: int | None
    before: Clock = START

    @property
    def order_us(self) -> int:
        """By which it is ordered. One without a time stands where the clock stood. One of no use goes first."""
        if isinstance(self.record, DecodeError | AheadOfTime):
            return -1
        return max(self.before.us, 0) if self.time_us is None else self.time_us

    @property
    def place_us(self) -> int:
        """The greatest time in its partition up to it. By this a merge has a rising order."""
        return max(self.order_us, self.before.us)


class Guard:
    """The guard of one partition.

    Args:
        max_ahead_s: The bound, in seconds.
        clock: What it knew before the first record that is put in.
        forced: Verdicts that it was forced to, by offset: those of an earlier reader, so that this one decides the
            same.
    """

    def __init__(self, max_ahead_s: float, clock: Clock = START, forced: Mapping[int, bool] | None = None) -> None:
        self.clock = clock
        self.forced = dict(forced or {})
        self._bound_us = round(max_ahead_s * 1e6)
        self._waiting: deque[Waiting] = deque()
        self._verdict: tuple[bool, str] | None = None  # of the first that waits: whether it passes, and why not
        self._asked = 0  # how many waited when it was last asked for
        self._said = False  # that the log's clock went back

    def put(self, message: Message, record: Timed | DecodeError) -> None:
        """Adds the next record of the partition."""
        self._waiting.append(Waiting(message, record, _time_of(record)))

    def decided(self) -> bool:
        """Whether there is a first record, and a verdict on it."""
        if self._verdict is None and len(self._waiting) != self._asked:
            self._asked = len(self._waiting)
            self._verdict = self._judge(self._waiting[0], last=False)
            if self._verdict is None and len(self._waiting) > MOST_ALIKE:
                # A product that gives all its lists one id must not fill the memory.
                self._verdict = self._judge(self._waiting[0], last=True, alike=True)
        return self._verdict is not None

    def decide(self, *, trusted_us: int = -1, last: bool = False) -> bool:
        """Gives a verdict where the records behind are too few for one, if that is safe.

        Args:
            trusted_us: A clock of all partitions. A record that is not ahead of it can do no harm.
            last: There will be no more records behind; those that are there decide.

        Returns:
            Whether there is a verdict now.
        """
        if self.decided() or not self._waiting:
            return self._verdict is not None
        first = self._waiting[0]
        verdict = None
        if last:
            verdict = self._judge(first, last=True)
        elif len(self.forced) < _MOST_FORCED and not self._is_ahead_of_log(first):
            safe = first.time_us is not None and 0 <= first.time_us <= trusted_us + self._bound_us
            verdict = (True, "") if safe and trusted_us >= 0 else None
        if verdict is not None:
            self.forced[first.message.offset] = verdict[0]
            self._verdict = verdict
        return verdict is not None

    def pop(self) -> Waiting:
        """Takes the first record out; there is a verdict on it. One that was refused holds the reason."""
        first = self._waiting.popleft()
        passes, why = self._verdict or (True, "")
        self._verdict, self._asked = None, 0
        first.before = self.clock
        if not passes:
            first.record = AheadOfTime(why)
        elif first.time_us is not None:
            self._move(first)
        return first

    def order_us(self) -> int:
        """By which the first record is ordered. One without a verdict holds back what comes after those behind it."""
        first = self._waiting[0]
        if isinstance(first.record, DecodeError) or (self._verdict is not None and not self._verdict[0]):
            return -1
        if first.time_us is None:
            return max(self.clock.us, 0)
        if self._verdict is not None:
            return first.time_us
        return min(each.time_us for each in self._waiting if each.time_us is not None)

    def first_us(self) -> int:
        """The time of the first record; 0 where it has none."""
        return self._waiting[0].time_us or 0

    def forget(self, before: int) -> None:
        """Forgets forced verdicts on records before an offset."""
        if self.forced:
            self.forced = {offset: passes for offset, passes in self.forced.items() if offset >= before}

    def at(self, clock: Clock, forced: Mapping[int, bool]) -> None:
        """Takes what an earlier guard knew, before the first record that is put in."""
        self.clock, self.forced = clock, dict(forced)
        self._waiting.clear()
        self._verdict, self._asked = None, 0

    def offset(self) -> int | None:
        """Offset of the first record that waits; None when there is none."""
        return self._waiting[0].message.offset if self._waiting else None

    def __len__(self) -> int:
        return len(self._waiting)

    def _move(self, one: Waiting) -> None:
        clock, time_us = self.clock, one.time_us or 0
        if time_us <= clock.us:
            return
        if clock.us < 0:
            self.clock = Clock(time_us, "", not self._is_ahead_of_log(one), one.message.time_us)
            return
        step = _SYMBOLS[min((time_us - clock.us).bit_length(), len(_SYMBOLS) - 1)]
        taken_us = one.message.time_us
        if 0 < taken_us < clock.taken_us - self._bound_us and not self._said:
            self._said = True
            log_.warning(
                "%s: the log's clock went back by %s; until it has caught up, only the records around one tell whether "
                "it is ahead of time",
                one.message.tp,
                _span(clock.taken_us - taken_us),
            )
        self.clock = clock._replace(
            us=time_us, steps=(clock.steps + step)[-_STEPS:], taken_us=max(clock.taken_us, taken_us)
        )

    def _is_ahead_of_log(self, one: Waiting) -> bool:
        """Whether its time is after the log's own. A message without a time of the log is not."""
        clock, taken_us = self.clock, one.message.time_us
        counts = clock.log_time and taken_us > 0 and taken_us + _JITTER_US >= clock.taken_us
        return counts and (one.time_us or 0) > taken_us + self._bound_us

    def _judge(self, one: Waiting, *, last: bool, alike: bool = False) -> tuple[bool, str] | None:
        """The verdict on the first record: whether it passes, and why not; None without one.

        Args:
            one: The first record.
            last: The records that are there decide, also if they are few.
            alike: Those of the same impression have a vote, too.
        """
        if one.time_us is None:
            return True, ""
        if (forced := self.forced.get(one.message.offset)) is not None:
            return forced, self._ahead_of_log(one) if self._is_ahead_of_log(one) else self._ahead_of_others(one)
        clock, log_us = self.clock, one.message.time_us
        if self._is_ahead_of_log(one) and (refused := self._judge_by_log(one, last=last, alike=alike)) is not True:
            return None if refused is None else (False, self._ahead_of_log(one))
        if clock.us >= 0 and one.time_us <= clock.us + self._allowed_us(_usual(clock.steps)):
            return True, ""
        if clock.us < 0 and log_us > 0 and abs(one.time_us - log_us) <= self._bound_us:
            return True, ""
        verdict = self._judge_by_others(one, one.time_us, last=last, alike=alike)
        return None if verdict is None else (verdict, "" if verdict else self._ahead_of_others(one))

    def _judge_by_log(self, one: Waiting, *, last: bool, alike: bool) -> bool | None:
        """Of a record ahead of the log: True where the partition has another notion of time."""
        if self.clock.us >= 0:
            return False
        votes = [self._is_ahead_of_log(other) for other in self._voters(one, alike=alike)]
        if votes.count(True) >= NEEDED or (last and votes.count(True) > len(votes) / 2):
            return True
        return False if last or votes.count(False) > VOTERS - NEEDED else None

    def _judge_by_others(self, one: Waiting, time_us: int, *, last: bool, alike: bool) -> bool | None:
        at_first = self.clock.us < 0
        needed = NEEDED_AT_FIRST if at_first else NEEDED
        least_us = time_us - self._allowed_us(_usual(self.clock.steps))
        times: list[int] = []
        for other in self._voters(one, alike=alike):
            if self._is_ahead_of_log(other) and not self._is_ahead_of_log(one):
                continue  # it is wrong itself
            times.append(other.time_us or 0)
            if sum(each_us >= least_us for each_us in times) >= needed:
                return True
        if len(times) < VOTERS and not last:
            return None
        # Where the records are not in order at all, it is no wonder that many are before this one.
        least_us -= _DISORDER * _disorder(times)
        follow = sum(each_us >= least_us for each_us in times)
        if len(times) == VOTERS:
            return follow >= needed
        return (follow > 0 or len(times) < NEEDED_AT_FIRST) if at_first else 2 * follow >= len(times)

    def _voters(self, one: Waiting, *, alike: bool = False) -> Iterator[Waiting]:
        """The records behind the first one that have a time. Those of the same impression have no vote, unless `alike`.

        Only the first `MOST_ALIKE` are looked at. So the verdict is the same, in whatever pieces a reader reads.
        """
        found, source = 0, _source_of(one.record)
        for other in islice(self._waiting, 1, MOST_ALIKE + 1):
            if other.time_us is None or (not alike and _source_of(other.record) == source):
                continue
            yield other
            found += 1
            if found == VOTERS:
                return

    def _allowed_us(self, step_us: int) -> int:
        return self._bound_us + _FACTOR * step_us

    def _ahead_of_log(self, one: Waiting) -> str:
        us, taken_us = one.time_us or 0, one.message.time_us
        return (
            f"time_us is {us} ({_date(us)}), {_span(us - taken_us)} after the log took the record ({_date(taken_us)}); "
            "correct the clock that wrote it, or raise join.max_ahead_s"
        )

    def _ahead_of_others(self, one: Waiting) -> str:
        us, clock_us = one.time_us or 0, self.clock.us
        if clock_us < 0:
            behind = [other.time_us for other in self._voters(one) if other.time_us is not None]
            clock_us = max(behind, default=us)
        return (
            f"time_us is {us} ({_date(us)}), {_span(us - clock_us)} ahead of the records around it "
            f"({_date(clock_us)}); correct the clock that wrote it, or raise join.max_ahead_s"
        )


def _time_of(record: Timed | DecodeError) -> int | None:
    """A record's time; None for one that has none, or where it is unknown."""
    if isinstance(record, DecodeError):
        return None
    return record.time_us or None


def _source_of(record: Timed | DecodeError | AheadOfTime) -> str | None:
    """Where a record comes from: its impression."""
    return record.impression_id if isinstance(record, Feedback) else getattr(record, "id", None)


def _usual(steps: str) -> int:
    """The usual step of a clock, rounded down to a power of two: the middle of those that are remembered."""
    if not steps:
        return 0
    bits = sorted(map(_SYMBOLS.index, steps))[(len(steps) - 1) // 2]
    return 1 << bits >> 1


def _disorder(times: list[int]) -> int:
    """How far back the next time usually is; 0 where most times rise, even if a few are far ahead."""
    if len(times) < NEEDED:
        return 0
    back = sorted(max(0, before - after) for before, after in pairwise(times))
    return back[len(back) * 3 // 5]


def _date(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(us: int) -> str:
    seconds = us / 1e6
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"

"""Takes the records of several partitions in the order of their times, from a log, and leaves no time unguarded.

A partition without a message at hand holds the others back, so that the order is the log's own, until it has been
silent for `idle_s`. Feedback alone never moves on while every ranking partition is silent for less than that. A record
on which its guard has no verdict yet (`recdistill.loops.ahead`) holds the others back in the same way.

A reader that starts again first takes what an earlier one had taken already (`again`), and then goes on. `place` says
from where it must be taken again. To know that, a merge keeps some places of each partition, about a thousand at most.

It knows nothing of windows, labels or transactions.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from recdistill.errors import DecodeError
from recdistill.loops.ahead import NEEDED, Clock, Guard, Waiting
from recdistill.records import Feedback, decode, read_heads
from recdistill.stream import Message, Source, TopicPartition

_READ_AGAIN = 1000
_WAIT_S = 0.2
_MOST_MARKS = 32_768  # of all partitions


class Merge:
    """The merge; see the header of this module.

    Args:
        source: Of `rankings` and `feedback`.
        guards: One for each partition, with what an earlier reader knew.
        batch: Most messages of one `take`, and of one read.
        wait_s: Longest wait for new messages.
        idle_s: A partition that is silent for so long holds nobody back.
        clock: Seconds, monotonic; for `idle_s` alone.

    Attributes:
        read: Next offset of each partition, after what was taken.
        clock_us: The greatest time that was taken.
    """

    def __init__(
        self,
        source: Source,
        guards: Mapping[TopicPartition, Guard],
        *,
        batch: int,
        wait_s: float,
        idle_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._source, self._guards = source, dict(guards)
        self._batch, self._wait_s, self._idle_s = batch, wait_s, idle_s
        self._clock = clock
        self._seen_s = dict.fromkeys(guards, clock())
        self._marks: dict[TopicPartition, deque[tuple[int, Clock]]] = {tp: deque() for tp in guards}
        self._heap: list[tuple[int, int, TopicPartition]] = []
        self._holding: set[TopicPartition] = set()
        self._blocked = False
        self._fruitless = False  # whether the last take took nothing
        self.read = dict(source.position())
        self.clock_us = -1

    def again(self, read: Mapping[TopicPartition, int]) -> Iterator[Waiting]:
        """What an earlier reader had taken already, each partition in its order, one partition after the other.

        Args:
            read: Its next offsets.
        """
        for tp in self._guards:
            yield from self._read_again(tp, read[tp])
            self.read[tp] = max(self.read[tp], read[tp])

    def take(self, ends: Mapping[TopicPartition, int] | None, *, last: bool = False) -> Iterator[Waiting]:
        """Up to `batch` records.

        Args:
            ends: When draining: a partition that stands at its end holds nobody back.
            last: No more will come after the ends, so the records that are there decide.
        """
        self._blocked = False
        self._fill(ends, last)
        self._fruitless = True
        for _ in range(self._batch):
            tp = self._next(ends)
            if tp is None:
                return
            guard = self._guards[tp]
            one = guard.pop()
            self._passed(one)
            self._fruitless = False
            if len(guard) == 0 or not guard.decided():
                self._read_more(tp, ends, last, 0.0)
            self._place(tp, ends)
            yield one

    def at_end(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether everything up to `ends` was taken, but for what waits for records that will come later."""
        position = self._source.position()
        return self._blocked or (not self._heap and all(position[tp] >= end for tp, end in ends.items()))

    def at_ends(self) -> bool:
        """Whether each partition that has nothing at hand was read to the end of what the log holds now.

        One that has records at hand reads on when those are taken. What it reads then comes later in its own order.
        """
        position = self._source.position()
        return all(position[tp] >= self._source.bounds(tp)[1] for tp, guard in self._guards.items() if not len(guard))

    def let_go(self) -> bool:
        """It is known that nothing will come that is earlier: no partition holds the others back until it has more.

        Returns:
            Whether something waited.
        """
        self._seen_s = dict.fromkeys(self._guards, float("-inf"))
        return any(len(guard) for guard in self._guards.values())

    def clocks(self) -> dict[TopicPartition, Clock]:
        """What the guard of each partition knows now."""
        return {tp: guard.clock for tp, guard in self._guards.items()}

    def waiting(self) -> int:
        """How many rankings are read, and wait for a verdict or for their turn."""
        return sum(len(guard) for tp, guard in self._guards.items() if tp.topic == "rankings")

    def place(self, tp: TopicPartition, came_us: int | None) -> tuple[int, Clock, dict[int, bool]]:
        """Where another reader can start, what the guard knew there, and the verdicts that it was forced to.

        Args:
            tp: The partition.
            came_us: That reader must see every record that came at this time or later. None: it need see nothing of
                what was taken. What was taken before the place is forgotten.
        """
        guard, marks = self._guards[tp], self._marks[tp]
        if came_us is None or guard.clock.us < came_us:
            marks.clear()
        while len(marks) > 1 and came_us is not None and marks[1][1].us < came_us:
            marks.popleft()
        offset, clock = marks[0] if marks else (self.read[tp], guard.clock)
        guard.forget(offset)
        return offset, clock, guard.forced

    def marks(self, tp: TopicPartition) -> tuple[Clock, list[tuple[int, Clock]]]:
        """What the guard of a partition knows now, and the places at which another reader can start."""
        return self._guards[tp].clock, list(self._marks[tp])

    def holds(self, read: Mapping[TopicPartition, int]) -> bool:
        """Whether the log still holds all that comes after some offsets."""
        return all(self._source.bounds(tp)[0] <= offset for tp, offset in read.items())

    def go_on(self, tp: TopicPartition, read: int, clock: Clock, marks: Sequence[tuple[int, Clock]]) -> None:
        """Takes what another reader knew when it had read up to an offset, and reads from there.

        Args:
            tp: The partition.
            read: The offset.
            clock: What its guard knew.
            marks: From `marks`.
        """
        self._source.seek({tp: read})
        guard = self._guards[tp]
        guard.at(clock, guard.forced)
        self._marks[tp] = deque(marks)
        self.read[tp] = read

    def _passed(self, one: Waiting) -> None:
        tp = one.message.tp
        self.read[tp] = one.message.offset + 1
        marks = self._marks[tp]
        marks.append((one.message.offset, one.before))
        if len(marks) > max(16, _MOST_MARKS // len(self._guards)):  # then every second one is enough
            self._marks[tp] = deque(mark for n, mark in enumerate(marks) if n % 2 == 0)
        self.clock_us = max(self.clock_us, one.order_us)

    def _read_again(self, tp: TopicPartition, read: int) -> Iterator[Waiting]:
        guard = self._guards[tp]
        end = self._source.bounds(tp)[1]
        while True:
            while guard.decided() and (guard.offset() or 0) < read:
                one = guard.pop()
                self._passed(one)
                yield one
            left = (offset := guard.offset()) is not None and offset < read
            if self._source.position()[tp] < (end if left else min(read, end)):
                _put(guard, self._source.read_from(tp, _READ_AGAIN, _WAIT_S))
            elif left:
                guard.decide(last=True)
            else:
                return

    def _fill(self, ends: Mapping[TopicPartition, int] | None, last: bool) -> None:
        # One wait is enough, however many partitions are silent.
        waits = self._fruitless or not any(guard.decided() for guard in self._guards.values())
        for tp, guard in self._guards.items():
            if not guard.decided():
                self._read_more(tp, ends, last, self._wait_s if waits else 0.0)
                waits = waits and self._ended(tp, ends)
        self._heap.clear()
        self._holding.clear()
        for tp in self._guards:
            self._place(tp, ends)

    def _read_more(
        self, tp: TopicPartition, ends: Mapping[TopicPartition, int] | None, last: bool, wait_s: float
    ) -> None:
        """Reads until the first record has a verdict, or nothing more is there."""
        guard = self._guards[tp]
        while not guard.decided() and not self._ended(tp, ends):
            messages = self._source.read_from(tp, self._batch, wait_s)
            if not messages:
                break
            wait_s = 0.0
            self._seen_s[tp] = self._clock()
            _put(guard, messages)
        if last and self._ended(tp, ends):
            guard.decide(last=True)
        if len(guard) == 0:
            self.read[tp] = max(self.read[tp], self._source.position()[tp])

    def _place(self, tp: TopicPartition, ends: Mapping[TopicPartition, int] | None) -> None:
        """Notes by what a partition is ordered now."""
        if len(self._guards[tp]):
            heapq.heappush(self._heap, _key(self._guards[tp].order_us(), tp))
        elif not self._ended(tp, ends) and not self._is_idle(tp):
            self._holding.add(tp)

    def _next(self, ends: Mapping[TopicPartition, int] | None) -> TopicPartition | None:
        """The partition whose first record is next; it has a verdict. None: nothing can be taken now."""
        if self._holding:
            return None
        aside = []
        found = None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            tp = entry[2]
            guard = self._guards[tp]
            if guard.decided() or guard.decide(trusted_us=self._trusted_us(tp)):
                found = tp
            else:
                aside.append(entry)
                # It holds the others back as a silent partition does.
                if ends is not None or not self._is_idle(tp):
                    self._blocked = self._ended(tp, ends)
                    break
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return found

    def _trusted_us(self, tp: TopicPartition) -> int:
        """The clock of all partitions, or a time that enough other partitions have reached too."""
        first_us = self._guards[tp].first_us()
        others = sum(1 for key_us, _, other in self._heap if other != tp and key_us >= first_us)
        return first_us if others >= NEEDED else self.clock_us

    def _ended(self, tp: TopicPartition, ends: Mapping[TopicPartition, int] | None) -> bool:
        return ends is not None and self._source.position()[tp] >= ends[tp]

    def _is_idle(self, tp: TopicPartition) -> bool:
        return self._clock() - self._seen_s[tp] >= self._idle_s


def _key(order_us: int, tp: TopicPartition) -> tuple[int, int, TopicPartition]:
    # At equal times the ranking comes before its feedback.
    return order_us, int(tp.topic == "feedback"), tp


def _put(guard: Guard, messages: Sequence[Message]) -> None:
    """Adds the next records of a partition."""
    if messages and messages[0].tp.topic == "rankings":
        for message, record in zip(messages, read_heads([message.value for message in messages]), strict=True):
            guard.put(message, record)
    else:
        for message in messages:
            guard.put(message, _decode(message))


def _decode(message: Message) -> Feedback | DecodeError:
    try:
        return decode(Feedback, message.value)
    except DecodeError as e:
        return e

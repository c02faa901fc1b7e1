"""Messages of several partitions in the order of what they are about, as far as the log holds them.

Somebody else's topics have other keys and other partitions than ours. So one partition of ours gets messages of all of
theirs. When much waits there, each partition could be read far ahead of the others, and then lists and clicks would
come to the joiner days apart. So here the message with the oldest time comes first. A partition of which nothing is at
hand is waited for only when it is known to hold more.

One wrong time does not hold its partition back: what counts is the oldest of its next few messages.

It knows nothing of what a message means.

Example:
    >>> one, two = TopicPartition("a", 0), TopicPartition("b", 0)
    >>> queue = InTime([one, two])
    >>> queue.put(one, "later", 7); queue.put(two, "first", 5); queue.put(two, "last", 9)
    >>> [queue.pop()[1] for _ in range(len(queue))]
    ['first', 'later', 'last']
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from recdistill.stream import TopicPartition

T = TypeVar("T")

AHEAD: Final = 16
"""So many of the next messages of a partition say where it stands."""


class InTime(Generic[T]):
    """Waiting messages, the oldest first.

    Args:
        partitions: The partitions.
    """

    def __init__(self, partitions: Sequence[TopicPartition]) -> None:
        self._waiting: dict[TopicPartition, deque[tuple[int, T]]] = {tp: deque() for tp in partitions}
        self._latest = dict.fromkeys(partitions, 0)
        self._heap: list[tuple[int, TopicPartition]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def empty(self, tp: TopicPartition) -> bool:
        """Whether nothing of a partition waits."""
        return not self._waiting[tp]

    def first(self, tp: TopicPartition) -> T | None:
        """What waits longest of a partition."""
        waiting = self._waiting[tp]
        return waiting[0][1] if waiting else None

    def put(self, tp: TopicPartition, one: T, time_us: int | None) -> None:
        """Adds the next message of a partition.

        Args:
            tp: The partition.
            one: The message.
            time_us: What it is about; None, where it does not say, takes the time of the message before it.
        """
        if time_us is not None:
            self._latest[tp] = time_us
        waiting = self._waiting[tp]
        waiting.append((self._latest[tp], one))
        self._count += 1
        if len(waiting) == 1:
            self._push(tp)

    def pop(self) -> tuple[TopicPartition, T]:
        """Takes the oldest one; there must be one."""
        while True:
            stood_us, tp = heapq.heappop(self._heap)
            # Messages that came since may be older.
            if (stands_us := self._stands(tp)) >= stood_us or not self._heap or stands_us <= self._heap[0][0]:
                break
            heapq.heappush(self._heap, (stands_us, tp))
        waiting = self._waiting[tp]
        _, one = waiting.popleft()
        self._count -= 1
        if waiting:
            self._push(tp)
        return tp, one

    def _stands(self, tp: TopicPartition) -> int:
        return min(time_us for time_us, _ in islice(self._waiting[tp], AHEAD))

    def _push(self, tp: TopicPartition) -> None:
        heapq.heappush(self._heap, (self._stands(tp), tp))

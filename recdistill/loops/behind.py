"""Reads single messages again, by a cursor of its own that runs behind.

It goes forward where the next one is near, and jumps where it is not.

It knows nothing of what is inside a message.

Example:
    >>> NEAR > 0
    True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from recdistill.errors import OutOfRange, StreamError
from recdistill.stream import Message, Source, TopicPartition

NEAR: Final = 200
"""Messages that are read over rather than jumped over."""

_WAIT_S: Final = 10.0
"""Longest wait for a message that is in the log."""


class Behind:
    """The cursor; see the header of this module.

    Args:
        source: Of the partitions, used by nobody else.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, places: Iterable[tuple[TopicPartition, int]]) -> dict[tuple[TopicPartition, int], Message]:
        """The messages at some places. What is not there any more is not in the answer.

        Raises:
            OutOfRange: Retention has removed one.
            StreamError: The log cannot be read.
        """
        wanted: dict[TopicPartition, list[int]] = {}
        for tp, offset in places:
            wanted.setdefault(tp, []).append(offset)
        return {
            (tp, message.offset): message
            for tp, offsets in wanted.items()
            for message in self._of(tp, sorted(set(offsets)))
        }

    def _of(self, tp: TopicPartition, offsets: list[int]) -> Iterator[Message]:
        at = 0
        while at < len(offsets):
            try:
                found = self._read(tp, offsets, at)
            except OutOfRange:  # retention has removed what lies at the cursor, but perhaps not what is wanted
                self._source.seek({tp: offsets[at]})
                found = self._read(tp, offsets, at)
            if not found:
                if self._source.position()[tp] > offsets[at]:  # only the end of a transaction was left
                    at = _behind(offsets, at, self._source.position()[tp])
                    continue
                raise StreamError(f"{tp} gives no message at {offsets[at]} again; see that the log can be read")
            for message in found:
                while at < len(offsets) and offsets[at] < message.offset:
                    at += 1
                if at < len(offsets) and offsets[at] == message.offset:
                    yield message
                    at += 1
            at = _behind(offsets, at, self._source.position()[tp])

    def _read(self, tp: TopicPartition, offsets: list[int], at: int) -> list[Message]:
        next_offset = self._source.position()[tp]
        if not next_offset <= offsets[at] <= next_offset + NEAR:
            self._source.seek({tp: offsets[at]})
        stop = at
        while stop + 1 < len(offsets) and offsets[stop + 1] - offsets[stop] <= NEAR:
            stop += 1
        span = offsets[stop] - self._source.position()[tp] + 1
        return self._source.read_from(tp, min(span, 1000), _WAIT_S)


def _behind(offsets: list[int], at: int, position: int) -> int:
    while at < len(offsets) and offsets[at] < position:
        at += 1
    return at

"""Blocks of a partition, and how the rankings that a choice depends on are found in the log.

Impressions at the offsets [256 k, 256 (k + 1)) of a partition make block k. What is learnt from a block counts only in
later blocks, so it does not matter how a scorer batches its work. Each ranking has the offset of its impression in a
header. So after a restart, the needed rankings are found near the end of `rankings`.

It knows nothing of how a choice is made.

Example:
    >>> block_of(255), block_of(256)
    (0, 1)
    >>> offset_header(7)
    ('impression.offset', b'7')
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from recdistill.errors import DecodeError
from recdistill.records import Ranking, decode
from recdistill.stream import Log, Message, TopicPartition

BLOCK: Final = 256
"""Offsets of a block."""

WINDOW: Final = 8
"""The choice in a block depends on so many blocks before it."""

HEADER: Final = "impression.offset"


def block_of(offset: int) -> int:
    """The block of an impression."""
    return offset // BLOCK


def offset_header(offset: int) -> tuple[str, bytes]:
    """The header of a ranking with the offset of its impression."""
    return HEADER, str(offset).encode()


def groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Cuts a batch where a partition passes from one block to the next.

    The rankings of a block must be learnt before the next block is chosen.
    """
    cut: list[list[Message]] = []
    numbers: dict[TopicPartition, int] = {}
    for message in messages:
        number = block_of(message.offset)
        if not cut or numbers.get(message.tp, number) != number:
            cut.append([])
            numbers.clear()
        numbers[message.tp] = number
        cut[-1].append(message)
    return cut


def rankings_before(log: Log, position: Mapping[TopicPartition, int]) -> Iterator[tuple[Ranking, TopicPartition, int]]:
    """The rankings that the choice at some positions of `impressions` depends on.

    Yields:
        Each ranking that decodes, with the partition and the offset of its impression.
    """
    for tp, following in sorted(position.items()):
        first = (block_of(following) - WINDOW) * BLOCK
        for message, offset in _tail(log, TopicPartition("rankings", tp.partition), first):
            try:
                ranking = decode(Ranking, message.value)
            except DecodeError:  # the joiner writes its dead letter
                continue
            yield ranking, tp, offset


def _tail(log: Log, tp: TopicPartition, first: int) -> Iterator[tuple[Message, int]]:
    """The rankings of impressions from offset `first` on, with the offsets of the impressions."""
    source = log.source([tp])
    try:
        beginning, end = source.bounds(tp)
        # Go back from the end until a ranking is old enough. Each step is twice as long as the one before.
        start, step = end, WINDOW * BLOCK
        while start > beginning:
            start, step = max(beginning, start - step), 2 * step
            source.seek({tp: start})
            some = source.read(1, 1.0)
            if some and (at := _offset_of(some[0])) is not None and at <= first:
                break
        source.seek({tp: start})
        while source.position()[tp] < end:  # a read that finds nothing yet is no end
            for message in source.read(500, 1.0):
                at = _offset_of(message)
                if at is not None and at >= first:
                    yield message, at
    finally:
        source.close()


def _offset_of(message: Message) -> int | None:
    for name, value in message.headers:
        if name == HEADER and value.isdigit() and len(value) < 20:
            return int(value)
    return None

"""Blocks of a partition: what is chosen alike, and how the rankings that a choice rests on are found in the log.

Impressions at the offsets [256 k, 256 (k + 1)) of a partition make block k. What is learnt from a block counts in the
next ones only, so it does not matter how a scorer batches its work. Each ranking names the offset of its impression in
a header, so a restart finds what it needs near the end of `rankings`.

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
"""Blocks before it that a block's choice rests on."""

HEADER: Final = "impression.offset"


def block_of(offset: int) -> int:
    """The block of an impression."""
    return offset // BLOCK


def offset_header(offset: int) -> tuple[str, bytes]:
    """What a ranking says of where its impression lies."""
    return HEADER, str(offset).encode()


def groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Cuts a batch where a partition passes from one block to the next: what is in a block may not wait for itself."""
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
    """The rankings that the choice at some positions of `impressions` rests on.

    Yields:
        Each ranking that decodes, with the partition and the offset of its impression.
    """
    for tp, following in sorted(position.items()):
        first = (block_of(following) - WINDOW) * BLOCK
        for message, offset in _tail(log, TopicPartition("rankings", tp.partition), first):
            try:
                ranking = decode(Ranking, message.value)
            except DecodeError:  # the joiner owns its dead letter
                continue
            yield ranking, tp, offset


def _tail(log: Log, tp: TopicPartition, first: int) -> Iterator[tuple[Message, int]]:
    """The rankings of impressions from offset `first` on, with those offsets."""
    source = log.source([tp])
    try:
        beginning, end = source.bounds(tp)
        # Goes back from the end, in steps that double, until a ranking is old enough.
        start, step = end, WINDOW * BLOCK
        while start > beginning:
            start, step = max(beginning, start - step), 2 * step
            source.seek({tp: start})
            some = source.read(1, 1.0)
            if some and (at := _offset_of(some[0])) is not None and at <= first:
                break
        source.seek({tp: start})
        while source.position()[tp] < end and (some := source.read(500, 1.0)):
            for message in some:
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

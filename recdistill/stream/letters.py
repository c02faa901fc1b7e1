"""Dead letters, and how a stage writes its output so that no single record can stop it.

A record that a stage cannot use, and one that the log does not take from it, goes to the topic `dead-letters`. A letter
always fits. It holds the whole record if it can. Otherwise it holds the beginning of the record, its size and its
SHA-256. The headers say why, and where the whole record can be read again.

`deliver` writes a batch: output, dead letters and positions, all in one transaction. Where the log refuses messages of
the batch, these become dead letters, and the rest is written. What is made of a message has the log's time of that
message. So retention never depends on a clock of ours, and what a scorer with a wrong clock writes is not deleted. If
the log does not take that time any more, since its clock went back, the present time is written.

It knows nothing of SQLite, Kafka or what is inside a value.

Example:
    >>> message = Message(TopicPartition("feedback", 0), 7, b"r-1", b"x" * 1_500_000, 0)
    >>> letter = dead_letter(message, ValueError("no record"), "join")
    >>> headers = dict(letter.headers)
    >>> len(letter.value), headers["offset"], headers["bytes"], headers["error"]
    (65536, b'7', b'1500000', b'ValueError: no record')
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from recdistill.errors import StreamError, Unwritable
from recdistill.limits import MAX_BYTES, MAX_HEADERS
from recdistill.records import DEAD_LETTERS
from recdistill.stream.contract import Headers, Message, Notes, Position, Stage, TopicPartition, log_time
from recdistill.stream.transaction import check_size, size_of

log_ = logging.getLogger(__name__)

_HEADS: Final = (None, 65_536, 4_096, 256, 0)
"""How much of a value a letter holds: all of it, or so many bytes. If the log refuses one, the next is tried."""

_MOST_REASON: Final = 2_000  # bytes
_MOST_KEY: Final = 1_024  # bytes


class Letter(NamedTuple):
    """A message for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Outgoing(NamedTuple):
    """A message that a stage wants to write, and the message that becomes a dead letter if the log refuses it."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()
    source: Message | None = None
    """None: it was made of nothing that the log holds, so the letter holds what could not be written."""


class Delivery(NamedTuple):
    """What one transaction writes."""

    outgoing: Sequence[Outgoing] = ()
    dead: Sequence[tuple[Message, Exception]] = ()
    """Messages that the stage could not use, and why."""
    position: Position | None = None
    note: str = ""
    notes: Notes | None = None
    now: bool = False
    """Whether what is written has the present time: the times of somebody else's topic say nothing of retention."""


def dead_letter(message: Message, error: Exception, stage: str, *, shorter: int = 0) -> Letter:
    """The letter of a message: as much of it as fits, why it is dead, and where it came from.

    A replay may write the same letter twice. Letters with equal `topic`, `partition` and `offset` are the same.

    Args:
        message: The message that could not be used. One that was never in a log has the partition and the offset -1.
        error: Why.
        stage: Name of the stage that gave up on it.
        shorter: How many times the log has refused this letter; each time the next one is shorter.
    """
    headers = [("topic", message.tp.topic.encode())]
    if message.offset >= 0:
        headers += [("partition", str(message.tp.partition).encode()), ("offset", str(message.offset).encode())]
    headers += [
        ("time_us", str(message.time_us).encode()),
        ("stage", stage.encode()),
        ("error", f"{type(error).__name__}: {error}".encode(errors="replace")[: _MOST_REASON >> shorter]),
    ]
    key, value = message.key, message.value
    if key is not None:
        headers.append(("key", key[: _MOST_KEY >> shorter]))
    head = _HEADS[shorter]
    if head is None and len(value or b"") + len(key or b"") > MAX_BYTES:
        head = _HEADS[1]
    if head is not None:
        whole = value or b""
        headers += [("bytes", str(len(whole)).encode()), ("sha256", hashlib.sha256(whole).hexdigest().encode())]
        value = whole[:head]
        key = key if key is not None and len(key) <= _MOST_KEY >> shorter else None
    if key is None and value is None:
        value = b""  # a log takes no message without both
    originals = [(f"original.{name}", data) for name, data in message.headers]
    if originals and (shorter or size_of([*headers, *originals]) > MAX_HEADERS):
        originals = [("original_headers_left_out", str(len(originals)).encode())]
    return Letter(key, value, (*headers, *originals))


def deliver(stage: Stage, name: str, prepare: Callable[[Mapping[int, Unwritable]], Delivery]) -> dict[int, Unwritable]:
    """Writes a batch in one transaction. What the log refuses becomes a dead letter of the same transaction.

    Args:
        stage: The stage.
        name: What the letters call it.
        prepare: Makes the batch. It is told which of its outgoing messages the log refuses, by their place in
            `outgoing`, and why. It is called again whenever more are known, and must name the same messages in the
            same order. Those that are refused are not written, so it must not number or count them.

    Returns:
        The outgoing messages that became dead letters, by their place, and why.

    Raises:
        StreamError: The log cannot be written, or it refuses even the shortest letter.
    """
    refused: dict[int, Unwritable] = {}
    shorter: dict[tuple[str, int], int] = {}
    untimely: set[tuple[str, int]] = set()  # what gets the present time, since the log does not take its own
    while True:
        delivery = prepare(refused)
        known = len(refused)
        for place, one in enumerate(delivery.outgoing):
            if place not in refused and (problem := _too_large(one)) is not None:
                refused[place] = problem
        if len(refused) > known:
            continue
        letters = _letters(delivery, refused)
        sent: list[tuple[str, int]] = []

        def time_of(mark: tuple[str, int], source: Message | None, now: bool = delivery.now) -> int | None:
            return None if source is None or now or mark in untimely else log_time(source)

        try:
            with stage.transaction() as transaction:
                for place, one in enumerate(delivery.outgoing):
                    if place not in refused:
                        transaction.send(
                            one.topic,
                            one.value,
                            key=one.key,
                            partition=one.partition,
                            headers=one.headers,
                            time_us=time_of(("outgoing", place), one.source),
                        )
                        sent.append(("outgoing", place))
                for mark, (message, error) in letters.items():
                    letter = dead_letter(message, error, name, shorter=shorter.get(mark, 0))
                    transaction.send(
                        DEAD_LETTERS,
                        letter.value,
                        key=letter.key,
                        headers=letter.headers,
                        time_us=time_of(mark, message),
                    )
                    sent.append(mark)
                if delivery.position is not None:
                    transaction.commit_inputs(delivery.position, delivery.note, delivery.notes)
        except Unwritable as e:
            if not e.places:
                raise
            marks = [sent[number] for number in e.places]
            if e.untimely and untimely.issuperset(marks):
                raise  # not even the present time is taken
            if e.untimely:
                untimely.update(marks)
            else:
                refused.update({place: e for kind, place in marks if kind == "outgoing"})
                _shorten(shorter, [mark for mark in marks if mark[0] != "outgoing"], e)
            continue
        for message, error in letters.values():
            where = f"{message.tp} at {message.offset}" if message.offset >= 0 else f"what was for {message.tp.topic}"
            log_.warning("dead letter from %s: %s", where, error)
        return refused


def _shorten(shorter: dict[tuple[str, int], int], letters: Sequence[tuple[str, int]], error: Unwritable) -> None:
    """Makes letters shorter that the log has refused.

    Raises:
        StreamError: One is as short as can be.
    """
    for mark in letters:
        shorter[mark] = shorter.get(mark, 0) + 1
        if shorter[mark] == len(_HEADS):
            raise StreamError(
                f"{error}; not even a dead letter without its record is taken: raise max.message.bytes of the topic "
                f"{DEAD_LETTERS!r} to 10,000 or more"
            ) from error


def _letters(delivery: Delivery, refused: Mapping[int, Unwritable]) -> dict[tuple[str, int], tuple[Message, Exception]]:
    """The dead letters of a batch, each under a mark that stays the same when the batch is written again."""
    letters: dict[tuple[str, int], tuple[Message, Exception]] = {}
    for place, (message, error) in enumerate(delivery.dead):
        letters["dead", place] = message, error
    for place in sorted(refused):
        one = delivery.outgoing[place]
        message = one.source or Message(
            tp=TopicPartition(one.topic, -1),
            offset=-1,
            key=one.key,
            value=one.value,
            time_us=0,
            headers=tuple(one.headers),
        )
        letters["refused", place] = message, refused[place]
    return letters


def _too_large(one: Outgoing) -> Unwritable | None:
    try:
        check_size(one.topic, one.value, one.key, one.headers)
    except Unwritable as e:
        return e
    return None

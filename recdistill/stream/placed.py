"""A typed place becomes offsets of a log.

A time is compared with the time of the records: of the request in `impressions`, `rankings` and `examples`, of the
action in `feedback`. So a table of last year that was imported today has last year's times. The place of a time is
found by bisection. It is exact where the records of a partition are in the order of their times. Where single records
come late, it is a place where the times pass it, and always the same one for the same log.

It knows nothing of SQLite, Kafka or stages.

Example:
    >>> import tempfile
    >>> from recdistill.records import Feedback, encode
    >>> from recdistill.stream.embedded import EmbeddedLog
    >>> from recdistill.stream.place import read_place
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made, stage, tp = log.create_topics({"feedback": 1}), log.stage("product"), TopicPartition("feedback", 0)
    >>> with stage.transaction() as transaction:
    ...     for second in (10, 20, 30):
    ...         transaction.send("feedback", encode(Feedback("f", "i", "a", "click", time_us=second * 1_000_000)))
    >>> [place_at(log, [tp], read_place(text))[tp] for text in ("@20", "@21", "@99", "2")]
    [1, 2, 3, 2]
    >>> place_at(log, [tp], read_place("latest", words=True)) == {tp: 4}
    True
    >>> stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from recdistill.errors import DecodeError, UsageError
from recdistill.records import TOPICS, Example, Ranking, Record, decode
from recdistill.stream.contract import Log, Message, Source, TopicPartition
from recdistill.stream.place import Place
from recdistill.stream.problems import out_of_range
from recdistill.stream.up_to import up_to


def place_at(log: Log, partitions: Sequence[TopicPartition], place: Place) -> dict[TopicPartition, int]:
    """The offsets of a place.

    Args:
        log: The log.
        partitions: The partitions, of one topic or several.
        place: The place.

    Returns:
        The next offset of each partition. One whose records are all older than the time stands at its end.

    Raises:
        UsageError: A typed position does not name one of the partitions.
        OutOfRange: An offset is outside of what the log holds.
        StreamError: The log cannot be read.
    """
    if not partitions:
        return {}
    with closing(log.source(list(partitions))) as source:
        if place.time_us is not None:
            return {tp: _at_time(source, tp, place.time_us) for tp in partitions}
        bounds = {tp: source.bounds(tp) for tp in partitions}
        counts = source.identity().partitions
    if place.word is not None:
        return {tp: both[0] if place.word == "beginning" else both[1] for tp, both in bounds.items()}
    for tp in place.offsets:
        if tp.partition >= counts.get(tp.topic, 0):
            raise UsageError(f"{place.text!r} names {tp}, and what is read is {', '.join(map(str, partitions))}")
    if place.lone is not None and len(partitions) > 1:  # a lone number names the only partition
        wanted = ",".join(f"{tp}:OFFSET" for tp in partitions[:4]) + (",…" if len(partitions) > 4 else "")
        raise UsageError(f"{place.text!r} does not say the offset of {partitions[0]}; write {wanted}")
    found = {tp: place.offset(tp, counts[tp.topic]) for tp in partitions}
    for tp, offset in found.items():
        if not bounds[tp][0] <= offset <= bounds[tp][1]:
            raise out_of_range(tp, offset, *bounds[tp])
    return found


def event_time_us(message: Message) -> int:
    """The time that a message is about. Where it does not say one: the time at which the log took it."""
    kind = TOPICS.get(message.tp.topic)
    try:
        found = 0 if kind is None else _time_of(decode(kind, message.value))
    except DecodeError:
        found = 0
    return found or message.time_us


def _time_of(record: Record) -> int:
    if isinstance(record, Example):
        return record.ranking.impression.time_us
    if isinstance(record, Ranking):
        return record.impression.time_us
    return record.time_us


def _at_time(source: Source, tp: TopicPartition, time_us: int) -> int:
    """Bisects: what was looked at before `low` is older than the time, and what was looked at from `high` on is not."""
    low, high = source.bounds(tp)
    while low < high:
        middle = (low + high) // 2
        source.seek({tp: middle})
        found = next(up_to(source, tp, high, most=1), None)
        if found is None or event_time_us(found) >= time_us:
            high = middle
        else:
            low = found.offset + 1
    return low

"""How a saved position notices that Kafka lost messages and took new ones in their place.

Each time a partition gets a leader, Kafka raises the partition's leader epoch, and each record carries the epoch that
it was written in. A new epoch begins when a broker comes back after a loss of power, after an unclean election, and
when a copy is put back. So the witness of a position is the epoch, offset and time of the last few records before it:

* The broker still knows where the epoch of the newest record ended. If that is before this record, the record was cut
  off. This works also when the records are gone, so retention and compaction do not matter.
* Each record that is still there must have the same epoch and time. This also notices a cluster that was put back with
  its memory of the epochs.

A topic that was made again has another id, which `check_identity` notices.

It knows nothing of stages or of what is inside a message.

Example:
    >>> encode([Record(offset=7, epoch=2, time_ms=1_700_000_000_000)])
    '7:2:1700000000000'
    >>> decode("7:2:1700000000000")
    [Record(offset=7, epoch=2, time_ms=1700000000000)]
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from kafka.errors import LogTruncationError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from recdistill.errors import StreamError
from recdistill.stream.contract import Position, TopicPartition
from recdistill.stream.kafka.client import PATIENCE_S, Brokers
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.problems import bad_witness, cut_back, out_of_range

_RECORDS = 3
"""How many records a witness names."""

_LOOK = 16
"""How many offsets before the position are read first. In a hole of a compacted topic, more are read."""

_FETCH_BYTES = 64 << 10


class Record(NamedTuple):
    """What is remembered of one record."""

    offset: int
    epoch: int
    time_ms: int


def encode(records: Sequence[Record]) -> str:
    """Records as text, the oldest first."""
    return ",".join(f"{record.offset}:{record.epoch}:{record.time_ms}" for record in records)


def decode(text: str) -> list[Record]:
    """Records of a text.

    Raises:
        ValueError: It is not what `encode` writes.
    """
    records = [Record(*map(int, part.split(":"))) for part in text.split(",") if part.count(":") == 2]
    if not records or encode(records) != text:
        raise ValueError(text)
    return records


def take(namespace: Namespace, position: Position) -> dict[str, str]:
    """The witness of each position that still has a record before it; see `Log.witness`."""
    with namespace.brokers.explained("ask"), closing(_consumer(namespace)) as consumer:
        found = {
            tp: _before(namespace.brokers, consumer, namespace.wire(tp), tp, offset) for tp, offset in position.items()
        }
    return {str(tp): encode(records) for tp, records in found.items() if records}


def check(namespace: Namespace, position: Position, witness: Mapping[str, str]) -> None:
    """Checks each position against its witness, if there is one; see `Log.check_witness`."""
    brokers = namespace.brokers
    with brokers.explained("ask"), closing(_consumer(namespace)) as consumer:
        wires = {tp: namespace.wire(tp) for tp in position}
        beginnings = brokers.retry(lambda: consumer.beginning_offsets(list(wires.values())))
        ends = brokers.retry(lambda: consumer.end_offsets(list(wires.values())))
        for tp, offset in position.items():
            beginning, end = int(beginnings[wires[tp]]), int(ends[wires[tp]])
            if not beginning <= offset <= end:
                raise out_of_range(tp, offset, beginning, end)
            if (text := witness.get(str(tp))) is not None:
                _check_one(brokers, consumer, wires[tp], tp, offset, text, beginning)


def _check_one(
    brokers: Brokers, consumer: Any, wire: Any, tp: TopicPartition, offset: int, text: str, beginning: int
) -> None:
    try:
        saved = decode(text)
    except ValueError as error:
        raise bad_witness(tp, text) from error
    # Step 1: does the epoch of the newest record still reach up to it?
    if saved[-1].epoch >= 0 and (cut := _cut(brokers, consumer, wire, saved[-1])) is not None:
        raise cut_back(tp, offset, min(cut, saved[-1].offset), at_most=cut > saved[-1].offset)
    # Step 2: are the records that are left the same?
    first = max(beginning, saved[0].offset)
    present = {record.offset: record for record in _read(brokers, consumer, wire, first, saved[-1].offset + 1)}
    for record in saved:
        if present.get(record.offset, record) != record:
            raise cut_back(tp, offset, record.offset, at_most=True)


def _consumer(namespace: Namespace) -> Any:
    return namespace.brokers.consumer(fetch_bytes=_FETCH_BYTES)


def _before(brokers: Brokers, consumer: Any, wire: Any, tp: TopicPartition, offset: int) -> list[Record]:
    """The last records before an offset; empty if none is left.

    Raises:
        OutOfRange: The log ends before it.
    """
    look = _LOOK
    while True:
        beginning = int(brokers.retry(partial(consumer.beginning_offsets, [wire]))[wire])
        end = int(brokers.retry(partial(consumer.end_offsets, [wire]))[wire])
        if offset > end:  # the topic was made again, or cut back
            raise out_of_range(tp, offset, beginning, end)
        start = max(beginning, offset - look)
        try:
            found = _read(brokers, consumer, wire, start, offset)
        except OffsetOutOfRangeError:
            continue  # retention has just removed the beginning that was asked for
        if found or start <= beginning:
            return found[-_RECORDS:]
        look *= _LOOK


def _read(brokers: Brokers, consumer: Any, wire: Any, start: int, stop: int) -> list[Record]:
    """The records from `start` up to, not including, `stop`. Holes and ends of transactions are skipped."""
    if start >= stop:
        return []
    consumer.assign([wire])
    consumer.seek(wire, start)
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while consumer.position(wire) < stop:
        if time.monotonic() > deadline:
            raise StreamError(f"cannot read what stands before {stop} on {brokers.where}; check the brokers")
        for record in brokers.retry(partial(consumer.poll, timeout_ms=200, max_records=500)).get(wire, ()):
            if record.offset >= stop:
                return records
            records.append(Record(record.offset, record.leader_epoch, record.timestamp))
    return records


def _cut(brokers: Brokers, consumer: Any, wire: Any, record: Record) -> int | None:
    """Where the epoch of a record ended, if that is before the record's end; None if the record is still valid.

    If the broker does not know the epoch, the answer is the offset after the record: the cut is somewhere before it.
    """
    consumer.assign([wire])
    # The client can check a position with its epoch, but has no public call to set both. Its version is pinned.
    positions = consumer._subscription  # noqa: SLF001
    positions.seek(wire, OffsetAndMetadata(record.offset + 1, "", record.epoch))
    positions.request_position_validation(wire)
    deadline = time.monotonic() + PATIENCE_S
    try:
        # The error of one call is raised by the next call.
        consumer.position(wire)
        consumer.position(wire)
        while positions.assignment[wire].awaiting_validation:
            if time.monotonic() > deadline:
                raise StreamError(f"{brokers.where} does not say where epoch {record.epoch} ended; check the brokers")
            time.sleep(0.05)
            consumer.position(wire)
    except LogTruncationError as error:
        divergent = error.divergent_offsets.get(wire)
        return record.offset + 1 if divergent is None else int(divergent.offset)
    return None

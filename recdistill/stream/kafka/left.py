"""What stages say of themselves where no broker forgets it: one record for each stage on a compacted topic.

A broker forgets the positions of a group some days after its last commit (`offsets.retention.minutes`, seven days by
default). A stage that finds no position could then be new, or have worked for a year. Its record here tells: it is
written with the first commit of a process, again from time to time, and when the stage is closed.

It knows nothing of what a stage does.

Example:
    >>> left = Left({TopicPartition("impressions", 0): 7}, "a note", stopped=True, at_us=5)
    >>> read(write(left)) == left, read(b"{}")
    (True, None)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec
from kafka import TopicPartition as WirePartition

from recdistill.errors import LostPosition, StreamError
from recdistill.stream.contract import Left, TopicPartition
from recdistill.stream.kafka.client import PATIENCE_S
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.place import write_position, write_time

log_ = logging.getLogger(__name__)

TOPIC: Final = "recdistill-stages"
"""The topic, without the prefix. It is no topic of the loop, so `Log.topics` does not name it."""

CONFIGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    # Small segments: the broker compacts whole ones only, and a stage that opens reads what is left.
    "segment.bytes": str(1 << 20),
    "min.cleanable.dirty.ratio": "0.1",
}


AGAIN_S: Final = 600.0
"""After so long, a stage says again where it is, and an idle one commits its position again."""

LEAVE_S: Final = 10.0
"""How long a stage that is closed waits for the record that it leaves."""


class Says:
    """What one stage says of itself.

    Args:
        namespace: Where.
        stage: Its name, with the prefix.
        key: Key of its records: its name, or that of one of several processes, which begins with it and a dot.
        ids: The id of each topic that it reads.
        possible: Whether the topic is there.
    """

    def __init__(self, namespace: Namespace, stage: str, key: str, ids: Mapping[str, str], *, possible: bool) -> None:
        self._ids = ids
        self._namespace, self._stage, self._key, self._possible = namespace, stage, key, possible
        self._said_s: float | None = None
        self._found: Left | None = None

    def find(
        self, inputs: Sequence[TopicPartition], missing: Sequence[TopicPartition], formerly: Sequence[str] = ()
    ) -> None:
        """Looks what the stage said last of its inputs, also under older names, if some of them have no position."""
        self._found = find(self._namespace, self._stage, inputs, formerly) if missing else None

    def known(self, found: Mapping[TopicPartition, int]) -> None:
        """Takes in positions that were found elsewhere."""
        if self._found is not None:
            self._found.position.update(found)

    def lost(self, missing: Sequence[TopicPartition]) -> Left | None:
        """What the stage said last, if it had a position for one of these inputs; None: they are new."""
        return self._found if self._found and any(tp in self._found.position for tp in missing) else None

    def due(self, now_s: float) -> bool:
        """Whether the next transaction should say it again."""
        return self._possible and (self._said_s is None or now_s - self._said_s > AGAIN_S)

    def said(self, now_s: float) -> None:
        """Remembers that a transaction has said it."""
        self._said_s = now_s

    def send(self, producer: Any, saved: Mapping[TopicPartition, tuple[int, str]], *, stopped: bool) -> Any:
        """Sends the record; inside of a transaction."""
        position = {tp: offset for tp, (offset, _) in saved.items()}
        lines = {tp: metadata.partition("\n") for tp, (_, metadata) in saved.items()}
        note = next(iter(lines.values()))[0]
        notes = {tp: line for tp, (_, _, line) in lines.items() if line}
        at_us = time.time_ns() // 1000
        value = write(Left(position, note, stopped=stopped, at_us=at_us, notes=notes, ids=dict(self._ids)))
        return producer.send(self._namespace.prefix + TOPIC, value, self._key.encode(), partition=0)

    def leave(self, producer: Any, saved: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Says where the stage stopped, if it has committed anything."""
        if self._said_s is None:
            return

        def say() -> None:
            producer.begin_transaction()
            future = self.send(producer, saved, stopped=True)
            producer.flush()
            if future.failed():
                raise future.exception
            producer.commit_transaction()

        try:
            with self._namespace.brokers.explained("write to"):
                self._namespace.brokers.bounded("write to", say, LEAVE_S)
        except StreamError as error:
            # All is committed. Only a start after the broker has forgotten the position would ask for this record.
            log_.info("%s; the stage %s could not say where it stopped", error, self._stage)


class _Saved(msgspec.Struct):
    position: dict[str, int]
    note: str
    stopped: bool
    at_us: int
    notes: dict[str, str] = {}
    ids: dict[str, str] = {}


def write(left: Left) -> bytes:
    """The value of a record."""
    position = {str(tp): offset for tp, offset in left.position.items()}
    notes = {str(tp): line for tp, line in left.notes.items()}
    return msgspec.json.encode(
        _Saved(position, left.note, stopped=left.stopped, at_us=left.at_us, notes=notes, ids=dict(left.ids))
    )


def read(value: bytes | None) -> Left | None:
    """What a record says; None where it is none of ours."""
    try:
        saved = msgspec.json.decode(value or b"", type=_Saved)
        position = {_read_partition(name): offset for name, offset in saved.position.items()}
        notes = {_read_partition(name): line for name, line in saved.notes.items()}
    except (msgspec.MsgspecError, ValueError) as e:
        log_.warning("a record of %s is passed over: %s", TOPIC, e)
        return None
    return Left(position, saved.note, stopped=saved.stopped, at_us=saved.at_us, notes=notes, ids=saved.ids)


def _read_partition(name: str) -> TopicPartition:
    topic, _, partition = name.rpartition("/")
    return TopicPartition(topic, int(partition))


def find(
    namespace: Namespace, stage: str, inputs: Sequence[TopicPartition], formerly: Sequence[str] = ()
) -> Left | None:
    """What a stage said last of some inputs; None where it never said anything, or where the topic is not there.

    Args:
        namespace: Where to look.
        stage: Name of the stage, with the prefix.
        inputs: The inputs.
        formerly: Older names of the stage, with the prefix. The furthest position that was said under them counts.

    Raises:
        StreamError: The topic cannot be read.
    """
    records = _newest(namespace)
    now = [(name, said) for name, said in records.items() if name == stage or name.startswith(f"{stage}.")]
    before = [(name, records[name]) for name in formerly if name in records]
    found: Left | None = None
    for tp in inputs:
        # What was said last counts. Older names did not tell each other what they did.
        said = [one for _, one in now if tp in one.position][-1:] or sorted(
            (one for _, one in before if tp in one.position), key=lambda one: one.position[tp]
        )[-1:]
        for one in said:
            found = merged(found, one, tp)
    return found


def merged(found: Left | None, said: Left, tp: TopicPartition) -> Left:
    """What is known of several inputs, with one more that perhaps another process said."""
    position, notes = {tp: said.position[tp]}, {tp: said.notes[tp]} if tp in said.notes else {}
    ids = {tp.topic: said.ids[tp.topic]} if tp.topic in said.ids else {}
    if found is None:
        return Left(position, said.note, stopped=said.stopped, at_us=said.at_us, notes=notes, ids=ids)
    return Left(
        {**found.position, **position},
        found.note,
        stopped=found.stopped and said.stopped,
        at_us=max(found.at_us, said.at_us),
        notes={**found.notes, **notes},
        ids={**found.ids, **ids},
    )


def _newest(namespace: Namespace) -> dict[str, Left]:
    """The last record of each key, the one that was written last at the end."""
    wire = WirePartition(namespace.prefix + TOPIC, 0)
    brokers = namespace.brokers
    with brokers.explained("read from"), closing(brokers.consumer()) as consumer:
        if not consumer.partitions_for_topic(wire.topic):
            return {}
        beginning = brokers.retry(lambda: consumer.beginning_offsets([wire]))[wire]
        end = brokers.retry(lambda: consumer.end_offsets([wire]))[wire]
        consumer.assign([wire])
        consumer.seek(wire, beginning)
        values: dict[str, bytes | None] = {}
        deadline = time.monotonic() + PATIENCE_S
        while consumer.position(wire) < end:
            if time.monotonic() > deadline:
                raise StreamError(f"cannot read {wire.topic} on {brokers.where}; check the brokers")
            for record in brokers.retry(lambda: consumer.poll(timeout_ms=200)).get(wire, ()):
                name = (record.key or b"").decode(errors="replace")
                values.pop(name, None)
                values[name] = record.value
    return {name: said for name, value in values.items() if (said := read(value)) is not None}


def lost(stage: str, found: Left) -> LostPosition:
    """The error for a stage whose position the brokers have forgotten."""
    when = write_time(found.at_us // 1_000_000 * 1_000_000)
    facts = (
        f"the stage {stage!r} ran before, and the brokers have forgotten its position (they do so "
        "offsets.retention.minutes after the last commit, seven days by default)"
    )
    if found.stopped:
        there = write_position(found.position)
        return LostPosition(facts, f"it stopped on {when}, so go on exactly there with `--from {there}`")
    return LostPosition(
        facts, f"it was last heard of on {when} and did not stop in order, so where it stood is not known exactly"
    )

"""A transaction before it is committed: checked messages and input positions, in memory.

Both kinds of log collect a transaction here, and write it at the end of its block. So both refuse the same calls, with
the same sentences.

It knows nothing of SQLite or Kafka.

Example:
    >>> transaction = Collected({"items": 2}.__getitem__, inputs=(), turn=0)
    >>> transaction.send("items", b"value", partition=1, time_us=5)
    >>> transaction.rows
    [Row(tp=TopicPartition(topic='items', partition=1), key=None, value=b'value', headers=(), time_us=5)]
    >>> transaction.close()
    >>> transaction.send("items", b"late")
    Traceback (most recent call last):
    ...
    recdistill.errors.StreamError: this transaction has ended; open another one
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from recdistill.errors import StreamError, Unwritable
from recdistill.limits import MAX_BYTES, MAX_HEADERS, MAX_NOTE
from recdistill.stream.contract import Headers, Notes, Position, TopicPartition
from recdistill.stream.partitioner import partition_for


class Row(NamedTuple):
    """A message that is not yet written."""

    tp: TopicPartition
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    time_us: int


class Collected:
    """Collects what one transaction will write; see `recdistill.stream.contract.Transaction`.

    Args:
        partitions: Partition count of a topic; raises when there is no such topic.
        inputs: Partitions whose positions may be committed.
        turn: Number of the transaction within its stage. It chooses the partition of messages without
            key and partition.
        shared: Whether several processes have the stage. Then a note for all inputs would be a note of one of them.

    Attributes:
        rows: The messages, in the order of `send`.
        committed: Positions, note and notes of single inputs, when `commit_inputs` was called.
    """

    def __init__(
        self, partitions: Callable[[str], int], inputs: Sequence[TopicPartition], turn: int, *, shared: bool = False
    ) -> None:
        self._partitions = partitions
        self._shared = shared
        self._inputs = frozenset(inputs)
        self._turn = turn
        self._closed = False
        self.rows: list[Row] = []
        self.committed: tuple[dict[TopicPartition, int], str, dict[TopicPartition, str]] | None = None

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        time_us: int | None = None,
    ) -> None:
        """Adds a message; see the contract."""
        self._check_open()
        check_size(topic, value, key, headers)
        partition = check_message(topic, value, key, partition, self._partitions(topic), self._turn)
        if time_us is None:
            time_us = time.time_ns() // 1000
        self.rows.append(
            Row(tp=TopicPartition(topic, partition), key=key, value=value, headers=tuple(headers), time_us=time_us)
        )

    def commit_inputs(self, position: Position, note: str = "", notes: Notes | None = None) -> None:
        """Saves input positions with this transaction; see the contract."""
        self._check_open()
        if note and self._shared:
            raise StreamError("a stage that several processes share has notes for single inputs only")
        check_commit(position, note, notes or {}, self._inputs)
        self.committed = (dict(position), note, {tp: line for tp, line in (notes or {}).items() if line})

    def close(self) -> None:
        """Ends the transaction: later calls are refused."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("this transaction has ended; open another one")


def check_size(topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
    """Checks the size of a message, for both kinds of log.

    Raises:
        Unwritable: It is too large.
    """
    size = len(value or b"") + len(key or b"")
    if size > MAX_BYTES:
        raise Unwritable(
            f"a message of {size:,} bytes for topic {topic!r} is more than the {MAX_BYTES:,} that a log takes; "
            "send fewer candidates or a shorter history in one record"
        )
    if headers and size_of(headers) > MAX_HEADERS:
        raise Unwritable(
            f"a message for topic {topic!r} has {size_of(headers):,} bytes of headers, more than the {MAX_HEADERS:,} "
            "that a log takes; send fewer or shorter headers"
        )


def size_of(headers: Headers) -> int:
    """Bytes that headers take."""
    return sum(len(name.encode()) + len(data) + 6 for name, data in headers)


def check_message(
    topic: str, value: bytes | None, key: bytes | None, partition: int | None, partitions: int, turn: int
) -> int:
    """Checks a message for `Transaction.send` of both kinds of log, and chooses its partition.

    Args:
        topic: Name of the topic, for the error.
        value: Value of the message.
        key: Key of the message.
        partition: Partition that the caller asks for, if any.
        partitions: Partition count of the topic.
        turn: Number of the transaction within its stage. It chooses the partition of a message without
            key and partition.

    Returns:
        The partition to write to.

    Raises:
        StreamError: The message is empty, or the partition does not exist.
    """
    if value is None and key is None:
        raise StreamError(f"a message for topic {topic!r} needs a value or a key")
    if partition is None:
        return turn % partitions if key is None else partition_for(key, partitions)
    if not 0 <= partition < partitions:
        raise StreamError(f"topic {topic!r} has no partition {partition}; it has 0 to {partitions - 1}")
    return partition


def check_commit(position: Position, note: str, notes: Notes, inputs: Collection[TopicPartition]) -> None:
    """Checks a position and its notes for `Transaction.commit_inputs` of both kinds of log.

    Raises:
        StreamError: A partition is not an input of the stage, an offset is negative, or a note is too long or has a
            line break.
    """
    if not inputs:
        raise StreamError("a stage without inputs has no position to commit; name its inputs when opening it")
    for tp in (*position, *notes):
        if tp not in inputs:
            known = ", ".join(map(str, sorted(inputs)))
            raise StreamError(f"{tp} is not an input of this stage; its inputs are {known}")
    for tp, offset in position.items():
        if offset < 0:
            raise StreamError(f"the next offset of {tp} must be 0 or more, not {offset}")
    if any("\n" in line for line in (note, *notes.values())):
        raise StreamError("a note has a line break; it must be one line")
    shared = len(note.encode())
    size = shared + max((len(line.encode()) + 1 for line in notes.values()), default=0)
    if size > MAX_NOTE:
        raise StreamError(f"a note of {size:,} bytes is longer than the {MAX_NOTE:,} allowed")

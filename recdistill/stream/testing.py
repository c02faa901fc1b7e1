"""For tests of stages: a log that can stop its user at any step, and topics with large holes.

`AbortingLog` wraps a real log (embedded or Kafka). It counts the steps of all sources and stages that it opens: each
read, each send, each saving of positions. A commit is two steps, one just before and one just after it. At the step
that a test chooses it raises `Abort`, as if the process had died there. `Abort` is no `Exception`, so code that catches
errors of single records does not catch it. The step after a commit is the difficult one: the output is written, but the
stage does not know it.

A test runs its stage once with `at=None`, to count the steps. Then it runs it once for each step, goes on with the real
log, and compares the results.

`compacted` makes a topic look as after compaction: its offsets have large holes. It works on both kinds of log.

It knows nothing of stages under test.

Example:
    >>> import tempfile
    >>> from recdistill.stream.embedded import EmbeddedLog
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made = log.create_topics({"items": 1})
    >>> def write(log):
    ...     with log.stage("writer").transaction() as transaction:
    ...         transaction.send("items", b"x")
    >>> double = AbortingLog(log, at=None)
    >>> write(double)
    >>> double.steps
    ['send items', 'commit writer', 'committed writer']
    >>> try:
    ...     write(AbortingLog(log, at=1))
    ... except Abort as abort:
    ...     print(abort)
    stopped at step 1: commit writer
    >>> len(log.source(["items"]).read())
    1
    >>> with log.stage("writer").transaction() as transaction:
    ...     for price in range(100):
    ...         transaction.send("items", b"%d" % price, key=b"apple")
    >>> compacted(log, "items")
    >>> [message.offset for message in log.source(["items"]).read()]
    [0, 103]
    >>> log.close(); folder.cleanup()
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager

from recdistill.errors import StreamError
from recdistill.stream.contract import (
    Headers,
    Left,
    Log,
    LogIdentity,
    Message,
    Notes,
    Position,
    Source,
    Stage,
    TopicPartition,
    Transaction,
)
from recdistill.stream.embedded import EmbeddedLog

COMPACT_SOON: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "1",
}
"""Settings of a topic that a Kafka broker should compact at once. It does not compact what the
last transaction wrote.
"""


def compacted(log: Log, topic: str, patience_s: float = 60.0) -> None:
    """Compacts a topic. Returns when only the newest message of each key is left.

    The embedded log does it at once. A Kafka broker does it some time later, if the topic was made with the configs
    `COMPACT_SOON`, and this waits for it. On Kafka the last transaction must not have two messages of one key.

    Args:
        log: The log.
        topic: The topic; each of its messages has a key.
        patience_s: How long to wait for a broker.

    Raises:
        StreamError: The broker has not compacted the topic in time.
    """
    if isinstance(log, EmbeddedLog):
        log.compact(topic)
        return
    deadline = time.monotonic() + patience_s
    while True:
        keys = Counter(message.key for message in everything(log, topic))
        if all(count == 1 for count in keys.values()):
            return
        if time.monotonic() > deadline:
            raise StreamError(f"topic {topic!r} was not compacted within {patience_s:.0f} s; look at the broker's log")
        time.sleep(0.2)


def everything(log: Log, topic: str) -> list[Message]:
    """All messages that a topic holds now, each partition in its order."""
    messages: list[Message] = []
    with closing(log.source([topic])) as source:
        ends = {tp: source.bounds(tp)[1] for tp in source.position()}
        while any(source.position()[tp] < end for tp, end in ends.items()):
            messages += source.read(1000, 0.2)
    return messages


class Abort(BaseException):
    """Stands for the death of the process under test."""


class AbortingLog:
    """A log that raises `Abort` at one step; see the header of this module.

    Args:
        log: The log that does the real work. It stays open when this one is closed, so a test can look at it.
        at: Number of the step to stop at, from 0; None never stops. All later steps raise too: a dead
            process does nothing.

    Attributes:
        steps: The steps so far, one line each.
    """

    def __init__(self, log: Log, at: int | None) -> None:
        self._log = log
        self._at = at
        self.steps: list[str] = []

    def step(self, name: str) -> None:
        """Counts a step, and raises `Abort` if it is the chosen one or a later one."""
        number = len(self.steps)
        if self._at is not None and number >= self._at:
            raise Abort(f"stopped at step {self._at}: {name}")
        self.steps.append(name)

    def create_topics(
        self, partitions: Mapping[str, int], *, configs: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """As the real log does."""
        return self._log.create_topics(partitions, configs=configs)

    def grow_topics(self, partitions: Mapping[str, int]) -> list[str]:
        """As the real log does."""
        return self._log.grow_topics(partitions)

    def dangers(self) -> list[str]:
        """As the real log does."""
        return self._log.dangers()

    def topics(self) -> dict[str, int]:
        """As the real log does."""
        return self._log.topics()

    def source(
        self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None
    ) -> AbortingSource:
        """A source whose reads are steps."""
        return AbortingSource(self._log.source(partitions, position), self.step)

    def stage(
        self,
        name: str,
        inputs: Sequence[TopicPartition] = (),
        *,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> AbortingStage:
        """A stage whose sends and commits are steps."""
        return AbortingStage(self._log.stage(name, inputs, shared=shared, formerly=formerly), name, self.step)

    def positions(self) -> dict[str, dict[TopicPartition, int]]:
        """As the real log does."""
        return self._log.positions()

    def sync(self) -> None:
        """As the real log does."""
        self._log.sync()

    def witness(self, position: Position) -> dict[str, str]:
        """As the real log does."""
        return self._log.witness(position)

    def check_witness(self, position: Position, witness: Mapping[str, str] | None) -> None:
        """As the real log does."""
        self._log.check_witness(position, witness)

    def close(self) -> None:
        """Leaves the real log open."""


class AbortingSource:
    """Counts reads."""

    def __init__(self, source: Source, step: Callable[[str], None]) -> None:
        self._source = source
        self._step = step

    def identity(self) -> LogIdentity:
        """As the real source does."""
        return self._source.identity()

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """As the real source does; a step."""
        self._step("read")
        return self._source.read(max_messages, timeout_s)

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """As the real source does; a step."""
        self._step(f"read {tp}")
        return self._source.read_from(tp, max_messages, timeout_s)

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """As the real source does."""
        return self._source.bounds(tp)

    def position(self) -> dict[TopicPartition, int]:
        """As the real source does."""
        return self._source.position()

    def seek(self, position: Position) -> None:
        """As the real source does."""
        self._source.seek(position)

    def close(self) -> None:
        """As the real source does."""
        self._source.close()


class AbortingStage:
    """Counts sends and commits."""

    def __init__(self, stage: Stage, name: str, step: Callable[[str], None]) -> None:
        self._stage = stage
        self._name = name
        self._step = step

    def position(self) -> dict[TopicPartition, int]:
        """As the real stage does."""
        return self._stage.position()

    def note(self) -> str:
        """As the real stage does."""
        return self._stage.note()

    def notes(self) -> dict[TopicPartition, str]:
        """As the real stage does."""
        return self._stage.notes()

    def left(self) -> Left | None:
        """As the real stage does."""
        return self._stage.left()

    def keep(self) -> None:
        """As the real stage does."""
        self._stage.keep()

    @contextmanager
    def transaction(self) -> Generator[AbortingTransaction]:
        """As the real stage does. There is a step before the commit and one after it."""
        with self._stage.transaction() as transaction:
            yield AbortingTransaction(transaction, self._step)
            self._step(f"commit {self._name}")
        self._step(f"committed {self._name}")

    def close(self) -> None:
        """As the real stage does."""
        self._stage.close()


class AbortingTransaction:
    """Counts sends and saved positions."""

    def __init__(self, transaction: Transaction, step: Callable[[str], None]) -> None:
        self._transaction = transaction
        self._step = step

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
        """As the real transaction does; a step."""
        self._step(f"send {topic}")
        self._transaction.send(topic, value, key=key, partition=partition, headers=headers, time_us=time_us)

    def commit_inputs(self, position: Position, note: str = "", notes: Notes | None = None) -> None:
        """As the real transaction does; a step."""
        self._step("commit_inputs")
        self._transaction.commit_inputs(position, note, notes)

"""Writes a Kafka log: stages, and how they commit. The header of `recdistill.stream.kafka` says how they behave.

It knows nothing of reading messages.

Example:
    >>> from recdistill.stream.contract import Stage
    >>> {"position", "note", "transaction", "close"} <= set(dir(KafkaStage))
    True
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from kafka.structs import OffsetAndMetadata

from recdistill.errors import Fenced, StreamError, Unwritable, WrongLog
from recdistill.stream.contract import Left, Notes, Position, TopicPartition, suggest
from recdistill.stream.kafka import left
from recdistill.stream.kafka.client import PATIENCE_S
from recdistill.stream.kafka.former import furthest
from recdistill.stream.kafka.namespace import Namespace
from recdistill.stream.kafka.owners import Names, Owner, SharedOwner
from recdistill.stream.kafka.refused import Narrow, send
from recdistill.stream.kafka.same import Same
from recdistill.stream.kafka.writer import COMMIT_S, Administrate, Writer
from recdistill.stream.problems import say_adopted
from recdistill.stream.transaction import Collected

log_ = logging.getLogger(__name__)

_Saved = dict[TopicPartition, tuple[int, str]]
"""Offset and metadata of each input, as the group of the stage has them. The metadata is the note of the stage and, on
a second line, that of the input.
"""

_EACH_S = 0.2
"""How much more time each message gets when messages go one by one."""

_SLOWEST_BYTES_S = 1_000_000
"""Bytes that a slow broker takes in a second. Large transactions get more time by this."""

_VISIBLE_S = 10.0
"""How long closing a stage waits until readers see what it committed last."""

MARKS = ".marks"
"""After a stage's name: the group that tells whether a commit of unknown outcome went through."""


class KafkaStage:
    """The one writer of a name; see `recdistill.stream.contract.Stage`."""

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        inputs: Sequence[TopicPartition],
        topics: Callable[[], Mapping[str, int]],
        ids: Callable[[], Mapping[str, str]],
        administrate: Administrate,
        *,
        leaves: bool = False,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> None:
        self._namespace = namespace
        self._id = namespace.prefix + name
        self._shared = shared
        self._adopted: set[TopicPartition] = set()  # inputs whose position was found under an older name
        self._inputs = tuple(inputs)
        self._topics = topics
        self._counts = topics()
        self._same = Same(namespace.prefix, ids)
        self._turns = itertools.count()
        self._open = False
        self._one_by_one = False  # whether a broker takes less than batches have, so that each message goes alone
        self._closed = False
        self._broken: StreamError | None = None
        self._saved: _Saved = {}
        groups = [self._id, self._id + MARKS]
        # What the stage says of itself is in its transactions too, so that topic can be left open like the others.
        own = {left.TOPIC: 1} if leaves else {}

        def writer(name: str, groups: Sequence[str]) -> Writer:
            return Writer(namespace, name, groups=groups, topics=lambda: {**topics(), **own}, administrate=administrate)

        owner = SharedOwner(namespace, self._id, self._inputs, writer) if shared else None
        self._owner = owner or Owner(namespace, self._id, self._place())
        self._writer = writer(self._owner.id, [*groups, self._owner.group])
        self._says = left.Says(namespace, self._id, self._owner.id, self._same.of(self._inputs), possible=leaves)
        self._committed_s = time.monotonic()
        try:
            self._owner.take(self._writer)
            self._saved = self._namespace.committed(self._id, self._inputs)
            missing = [tp for tp in self._inputs if tp not in self._saved]
            self._beginnings = self._namespace.beginnings(missing)
            before = [namespace.prefix + one for one in formerly]
            self._says.find(self._inputs, missing, before)
            if owner is not None:
                self._adopt(furthest(namespace, before, missing, self._counts, administrate, owner.fence))
        except Exception:
            self.close()
            raise

    def _adopt(self, found: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Writes positions of older names under the present one."""
        if not found:
            return
        self._adopted = set(found)
        position = {tp: offset for tp, (offset, _) in found.items()}
        self._says.known(position)
        if self.left() is None:
            with self.transaction() as transaction:
                transaction.commit_inputs(position)
        for tp, (offset, former) in found.items():
            say_adopted(tp, offset, former, self._id)

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input; see the contract."""
        self._check_usable()
        if (found := self.left()) is not None:
            raise self._same.lost(self._id, found) or left.lost(self._id, found)
        return self._position()

    def left(self) -> Left | None:
        """What this stage said last, where its position is lost."""
        return self._says.lost([tp for tp in self._inputs if tp not in self._saved and tp not in self._adopted])

    def keep(self) -> None:
        """Commits the position again, if the last commit was long ago."""
        self._check_usable()
        if not self._saved or time.monotonic() - self._committed_s < left.AGAIN_S:
            return
        position, note, notes = self._position(), self.note(), self.notes()
        with self.transaction() as transaction:
            transaction.commit_inputs(position, note, notes)
        self._owner.keep()  # the name of the owner is such a position too

    def note(self) -> str:
        """The note of the last commit that had input positions."""
        self._check_usable()
        notes = [metadata.partition("\n")[0] for _, metadata in self._saved.values()]
        return notes[-1] if notes else ""

    def notes(self) -> dict[TopicPartition, str]:
        """The lines of single inputs, of that commit."""
        self._check_usable()
        lines = {tp: metadata.partition("\n")[2] for tp, (_, metadata) in self._saved.items()}
        return {tp: line for tp, line in lines.items() if line}

    @contextmanager
    def transaction(self) -> Generator[Collected]:
        """Opens a transaction; see the contract."""
        if self._open:
            raise StreamError("a stage has one transaction at a time; leave the open one first")
        self._check_usable()
        self._open = True
        transaction = Collected(self._partitions, self._inputs, next(self._turns), shared=self._shared)
        try:
            yield transaction
            self._commit(transaction)
        finally:
            transaction.close()
            self._open = False

    def close(self) -> None:
        """Closes the connection."""
        if not self._closed:
            self._closed = True
            if self._broken is None:
                self._says.leave(self._writer.client, self._saved)
                self._writer.close()
                try:
                    self._writer.visible.wait(_VISIBLE_S)
                except StreamError as error:  # all is committed; only the look at it failed
                    log_.warning("%s; what the stage %s wrote is safe, but may be seen later", error, self._id)
            else:
                self._writer.drop()
            self._writer.visible.close()

    def _partitions(self, topic: str) -> int:
        """Partition count of a topic."""
        if topic not in self._counts:
            self._counts = self._topics()
        if topic not in self._counts:
            hint = suggest(topic, self._counts)
            raise StreamError(f"topic {topic!r} does not exist in this log{hint}; make the topics first")
        return self._counts[topic]

    def _check_usable(self) -> None:
        if isinstance(self._broken, Fenced):
            raise Fenced(str(self._broken))
        if self._broken is not None:
            raise StreamError(f"the stage {self._id!r} failed before and has to be opened again: {self._broken}")

    def _commit(self, transaction: Collected) -> None:
        if not transaction.rows and transaction.committed is None:
            return
        before = self._saved
        saved = before if transaction.committed is None else _with_notes(self._position(), *transaction.committed)
        mark = uuid.uuid4().hex
        now_s = time.monotonic()
        says = bool(saved) and self._says.due(now_s)
        names = self._owner.renewal(now_s)
        each_s = _EACH_S * len(transaction.rows)
        patience_s = COMMIT_S + sum(len(row.value or b"") for row in transaction.rows) / _SLOWEST_BYTES_S
        patience_s += each_s if self._one_by_one else 0.0
        gave_up: float | None = None
        try:
            self._writer.finish_last()
            while True:
                try:
                    with self._namespace.brokers.explained("write to"):
                        send = partial(self._send, transaction, saved, mark, names, says=says)
                        self._namespace.brokers.bounded("write to", send, patience_s)
                    break
                except (Narrow, Unwritable, WrongLog) as error:
                    # The new producer with our name ends this transaction.
                    self._writer.recover(time.monotonic() + PATIENCE_S)
                    self._one_by_one = not getattr(error, "untimely", False)
                    if not isinstance(error, Narrow):
                        raise
                    log_.warning("a topic refuses a part of a batch; the stage %s sends each message alone", self._id)
                    patience_s += each_s
                except StreamError as error:
                    if isinstance(error, Fenced) and self._owner.lost():
                        raise
                    self._same.after(error, self._inputs, transaction.rows, self._writer.missing)
                    # The client does not survive every restart of a broker, and it is not known whether this commit
                    # succeeded. A new producer with our name ends the old transaction in any case. Then the mark tells.
                    gave_up = gave_up or time.monotonic() + PATIENCE_S
                    log_.warning("%s; connecting the stage %s anew", error, self._id)
                    self._writer.recover(gave_up)
                    if self._is_marked(transaction, mark):
                        break
                    # Whoever takes over writes its name first, and fences us then. If it did so before we were back,
                    # only its name tells.
                    if self._owner.lost() or self._namespace.committed(self._id, self._inputs) != before:
                        raise self._namespace.brokers.fenced() from error
                    if time.monotonic() > gave_up:
                        raise
        except Unwritable:
            raise
        except BaseException as error:
            self._broken = error if isinstance(error, StreamError) else StreamError("it was interrupted in a commit")
            raise
        self._saved, self._committed_s = saved, now_s
        if says:
            self._says.said(now_s)
        if names:
            self._owner.renewed(now_s)

    def _send(self, transaction: Collected, saved: _Saved, mark: str, names: Names, *, says: bool) -> None:
        """One attempt at the whole transaction."""
        producer = self._writer.client
        # Step 1: the messages.
        producer.begin_transaction()
        also = partial(self._says.send, producer, saved, stopped=False) if says else None
        sent = send(self._namespace, producer, transaction.rows, also, one_by_one=self._one_by_one)
        self._same.written(transaction.rows, producer)
        newest = {row.tp: int(future.value.offset) for row, future in zip(transaction.rows, sent, strict=True)}
        # Step 2: the positions.
        if transaction.committed is not None:
            offsets = {
                self._namespace.wire(tp): OffsetAndMetadata(offset, note, -1) for tp, (offset, note) in saved.items()
            }
            producer.send_offsets_to_transaction(offsets, self._id)
        if names:
            producer.send_offsets_to_transaction(names, self._owner.group)
        # Step 3: the mark that shows later whether exactly this transaction was committed.
        marked = self._namespace.wire(self._first(transaction))
        producer.send_offsets_to_transaction({marked: OffsetAndMetadata(0, mark, -1)}, self._id + MARKS)
        # Step 4: all of it becomes visible.
        producer.commit_transaction()
        self._writer.visible.expect(newest)

    def _position(self) -> dict[TopicPartition, int]:
        saved = {tp: offset for tp, (offset, _) in self._saved.items()}
        return {tp: saved[tp] if tp in saved else self._beginnings[tp] for tp in self._inputs}

    def _place(self) -> list[TopicPartition]:
        """Where the owner's name is kept.

        It is the same for all processes of this stage; a log without topics has no place.
        """
        return [*self._inputs, *(TopicPartition(topic, 0) for topic in sorted(self._counts))][:1]

    def _first(self, transaction: Collected) -> TopicPartition:
        """A partition that belongs to a transaction, and to no other process of this stage."""
        return self._inputs[0] if self._inputs else transaction.rows[0].tp

    def _is_marked(self, transaction: Collected, mark: str) -> bool:
        found = self._namespace.committed(self._id + MARKS, [self._first(transaction)])
        return any(metadata == mark for _, metadata in found.values())


def _with_notes(position: Position, newer: Position, note: str, notes: Notes) -> _Saved:
    """What the group holds after a transaction: the position of every input, so that all of them hold the same note."""
    return {
        tp: (offset, f"{note}\n{notes[tp]}" if tp in notes else note) for tp, offset in {**position, **newer}.items()
    }

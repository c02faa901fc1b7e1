"""The embedded log: one SQLite file that several processes read and write at once, with Kafka's behaviour.

A transaction collects its messages in memory and writes them in one SQLite transaction together with the input
positions, so the write lock is short and a SIGKILL at any moment leaves all of it or nothing. As in Kafka the end of a
transaction takes an offset in each partition that it wrote to, an aborted one leaves a gap, and a newer stage of a name
fences the older one. In WAL mode with `synchronous=NORMAL` (the default) a killed process loses nothing that was
committed; only a power failure can take the last commits with it. The option `synchronous = "FULL"` pays one fsync a
commit to keep those too.

It knows nothing of what is inside a value, and there is no retention by itself: `trim` removes old messages on request.

Example:
    >>> import tempfile
    >>> from recdistill.stream.contract import TopicPartition
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> log.create_topics({"items": 1}), log.topics()
    (['items'], {'items': 1})
    >>> stage = log.stage("copy", [TopicPartition("items", 0)])
    >>> stage.position() == {TopicPartition("items", 0): 0}
    True
    >>> stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from recdistill.errors import Fenced, StreamError, WrongLog
from recdistill.stream.contract import (
    Headers,
    LogIdentity,
    Message,
    Position,
    TopicPartition,
    check_commit,
    check_message,
    expand,
    out_of_range,
)
from recdistill.stream.sqlite_file import checked_options, connect, explained, initialise, writing

_logger = logging.getLogger(__name__)

_POLL_S = (0.002, 0.02)

_headers_to_bytes = msgspec.msgpack.Encoder().encode
_headers_from_bytes = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


class EmbeddedLog:
    """A log in one SQLite file; see `recdistill.stream.contract.Log`.

    Args:
        path: The file; it and its folder are made when missing. It has to be on a local disk.
        prefix: Put before each topic and stage name in the file.
        options: `synchronous` ("NORMAL" or "FULL") and `busy_timeout_s` (how long to wait for another writer).

    Raises:
        ConfigError: An option that does not exist or does not fit.
        StreamError: The file cannot be opened.
        WrongLog: The file is a SQLite file of something else.
    """

    def __init__(
        self, path: str | Path, *, prefix: str = "", options: Mapping[str, str | int | float | bool] | None = None
    ) -> None:
        self.path = str(path)
        self.prefix = prefix
        self._options = checked_options(options or {})
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, dict[int, int]]] = {}
        with explained(self.path, "open"):
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StreamError(f"cannot make the folder of the log {self.path}: {error.strerror}") from error
            self._connection = connect(self.path, self._options)
            self.cluster = initialise(self._connection, self.path, float(self._options["busy_timeout_s"]))

    def create_topics(
        self,
        partitions: Mapping[str, int],
        *,
        configs: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[str]:
        """Makes the topics that do not exist yet; see the contract."""
        made = []
        with self._lock, explained(self.path, "write"), writing(self._connection) as connection:
            for topic, count in partitions.items():
                if not topic or count < 1:
                    raise StreamError(f"topic {topic!r} needs a name and at least 1 partition, not {count}")
                name = self.prefix + topic
                row = connection.execute("SELECT partitions FROM topics WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    if row[0] != count:
                        raise WrongLog(
                            f"topic {topic!r} exists with {row[0]} partitions, not {count}; a count never changes: "
                            f"ask for {row[0]}, or choose another prefix or log"
                        )
                    continue
                connection.execute("INSERT INTO topics VALUES (?, ?, ?)", (name, str(uuid.uuid4()), count))
                for partition in range(count):
                    row_id = connection.execute(
                        "INSERT INTO partitions (topic, partition) VALUES (?, ?)", (name, partition)
                    ).lastrowid
                    # A table for each partition: appends stay at the end of a tree, where SQLite packs pages full.
                    connection.execute(
                        f"CREATE TABLE messages_{row_id} (offset INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, "
                        "key BLOB, value BLOB, headers BLOB)"
                    )
                made.append(topic)
        return made

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under the prefix."""
        with self._lock, explained(self.path, "read"):
            rows = self._connection.execute("SELECT name, partitions FROM topics ORDER BY name").fetchall()
        return {name[len(self.prefix) :]: count for name, count in rows if name.startswith(self.prefix)}

    def source(
        self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None
    ) -> EmbeddedSource:
        """Opens a reader; see the contract."""
        tps = expand(partitions, self.topics())
        return EmbeddedSource(self, tps, position or {})

    def stage(self, name: str, inputs: Sequence[TopicPartition] = ()) -> EmbeddedStage:
        """Opens the one writer of this name; see the contract."""
        if not name:
            raise StreamError("a stage needs a name")
        return EmbeddedStage(self, name, expand(inputs, self.topics()))

    def identity(self, topics: Sequence[str]) -> LogIdentity:
        """Cluster, partition counts and topic ids of these topics."""
        counts = {topic: len(self.tables(topic)) for topic in topics}
        return LogIdentity(self.cluster, counts, {topic: self._known[topic][0] for topic in topics})

    def trim(self, tp: TopicPartition, before: int) -> None:
        """Removes the messages with offsets below `before`, as retention does in Kafka.

        Args:
            tp: The partition.
            before: First offset to keep; at most the end.
        """
        table = self.table(tp)
        with self._lock, explained(self.path, "write"), writing(self._connection) as connection:
            connection.execute(
                "UPDATE partitions SET beginning = max(beginning, min(next, ?)) WHERE id = ?", (before, table)
            )
            connection.execute(
                f"DELETE FROM messages_{table} WHERE offset < (SELECT beginning FROM partitions WHERE id = ?)",  # noqa: S608 - a number of our own
                (table,),
            )

    def tables(self, topic: str) -> dict[int, int]:
        """Number of the table of each partition of a topic. Topics never change, so what was found once is kept."""
        found = self._known.get(topic)
        if found is None:
            name = self.prefix + topic
            with self._lock, explained(self.path, "read"):
                row = self._connection.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()
                if row is None:
                    raise StreamError(f"topic {topic!r} does not exist in the log {self.path}; make the topics first")
                rows = self._connection.execute("SELECT partition, id FROM partitions WHERE topic = ?", (name,))
                found = self._known[topic] = (row[0], dict(rows.fetchall()))
        return found[1]

    def table(self, tp: TopicPartition) -> int:
        """Number of the table of a partition."""
        tables = self.tables(tp.topic)
        if tp.partition not in tables:
            raise StreamError(f"topic {tp.topic!r} has no partition {tp.partition}; it has 0 to {len(tables) - 1}")
        return tables[tp.partition]

    def connect(self) -> sqlite3.Connection:
        """A connection of its own for a source or a stage."""
        with explained(self.path, "open"):
            return connect(self.path, self._options)

    def close(self) -> None:
        """Closes the log's own connection."""
        self._connection.close()


class EmbeddedSource:
    """Reads committed messages; see `recdistill.stream.contract.Source`."""

    def __init__(self, log: EmbeddedLog, tps: Sequence[TopicPartition], position: Position) -> None:
        self._log = log
        self._tables = {tp: log.table(tp) for tp in tps}
        self._connection = log.connect()
        self._turn = 0
        self._position = {tp: self.bounds(tp)[0] for tp in tps}
        try:
            self.seek(position)
        except StreamError:
            self.close()
            raise

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to."""
        return self._log.identity(sorted({tp.topic for tp in self._tables}))

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from whichever partitions have something."""
        tps = list(self._tables)
        # Start with another partition each time, so that a full one does not starve the others.
        self._turn = (self._turn + 1) % max(1, len(tps))
        return self._wait([*tps[self._turn :], *tps[: self._turn]], max_messages, timeout_s)

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from one partition."""
        self._table(tp)
        return self._wait([tp], max_messages, timeout_s)

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Beginning and committed end of a partition."""
        with explained(self._log.path, "read"):
            row = self._connection.execute(
                "SELECT beginning, next FROM partitions WHERE id = ?", (self._table(tp),)
            ).fetchone()
        return int(row[0]), int(row[1])

    def position(self) -> dict[TopicPartition, int]:
        """Next offset of each partition."""
        return dict(self._position)

    def seek(self, position: Position) -> None:
        """Goes on reading at these offsets."""
        for tp, offset in position.items():
            _check_range(tp, offset, *self.bounds(tp))
        self._position.update(position)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _table(self, tp: TopicPartition) -> int:
        if tp not in self._tables:
            raise StreamError(f"{tp} is not a partition of this source; it has {', '.join(map(str, self._tables))}")
        return self._tables[tp]

    def _wait(self, tps: Sequence[TopicPartition], max_messages: int, timeout_s: float) -> list[Message]:
        deadline = time.monotonic() + timeout_s
        pause_s = _POLL_S[0]
        seen = -1
        while True:
            with explained(self._log.path, "read"):
                # Cheap, and changes whenever another connection has committed.
                version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    messages = self._read_now(tps, max_messages)
                    if messages:
                        return messages
                    seen = version
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _POLL_S[1])

    def _read_now(self, tps: Sequence[TopicPartition], max_messages: int) -> list[Message]:
        messages: list[Message] = []
        connection = self._connection
        position = dict(self._position)
        # One snapshot: otherwise a trim between two statements could make messages vanish without OutOfRange.
        connection.execute("BEGIN")
        try:
            for tp in tps:
                wanted = max_messages - len(messages)
                if wanted <= 0:
                    break
                table, start = self._tables[tp], position[tp]
                beginning, end = connection.execute(
                    "SELECT beginning, next FROM partitions WHERE id = ?", (table,)
                ).fetchone()
                _check_range(tp, start, beginning, end)
                if start == end:
                    continue
                rows = connection.execute(
                    f"SELECT offset, key, value, time_us, headers FROM messages_{table} "  # noqa: S608 - a number of our own
                    "WHERE offset >= ? ORDER BY offset LIMIT ?",
                    (start, wanted),
                ).fetchall()
                messages.extend(
                    Message(tp, offset, key, value, time_us, _headers_from_bytes(headers) if headers else ())
                    for offset, key, value, time_us, headers in rows
                )
                # What follows the last message may be only the end of its transaction: pass that too.
                rest = (
                    len(rows) == wanted
                    and connection.execute(
                        f"SELECT 1 FROM messages_{table} WHERE offset > ? LIMIT 1",  # noqa: S608 - a number of our own
                        (rows[-1][0],),
                    ).fetchone()
                )
                position[tp] = rows[-1][0] + 1 if rest else end
        finally:
            connection.execute("COMMIT")
        self._position = position
        return messages


class EmbeddedStage:
    """The one writer of a name; see `recdistill.stream.contract.Stage`."""

    def __init__(self, log: EmbeddedLog, name: str, inputs: Sequence[TopicPartition]) -> None:
        self._log = log
        self._name = log.prefix + name
        self._inputs = tuple(inputs)
        self._connection = log.connect()
        self._open = False
        self._turns = itertools.count()
        with explained(log.path, "write"), writing(self._connection) as connection:
            self._epoch: int = connection.execute(
                "INSERT INTO stages (name, epoch) VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (self._name,),
            ).fetchone()[0]

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input."""
        result = {}
        with explained(self._log.path, "read"):
            for tp in self._inputs:
                row = self._connection.execute(
                    "SELECT next FROM positions WHERE stage = ? AND topic = ? AND partition = ?",
                    (self._name, self._log.prefix + tp.topic, tp.partition),
                ).fetchone()
                if row is None:
                    row = self._connection.execute(
                        "SELECT beginning FROM partitions WHERE id = ?", (self._log.table(tp),)
                    ).fetchone()
                result[tp] = int(row[0])
        return result

    def note(self) -> str:
        """The note of the last commit that had input positions."""
        with explained(self._log.path, "read"):
            row = self._connection.execute("SELECT note FROM stages WHERE name = ?", (self._name,)).fetchone()
        return str(row[0])

    @contextmanager
    def transaction(self) -> Generator[EmbeddedTransaction]:
        """Opens a transaction; see the contract."""
        if self._open:
            raise StreamError("a stage has one transaction at a time; leave the open one first")
        with explained(self._log.path, "read"):
            self._check_epoch(self._connection)
        self._open = True
        transaction = EmbeddedTransaction(self._log, self._inputs, next(self._turns))
        try:
            yield transaction
        except BaseException:
            self._leave_gap(transaction)
            raise
        else:
            self._commit(transaction)
        finally:
            transaction.close()
            self._open = False

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _check_epoch(self, connection: sqlite3.Connection) -> None:
        epoch = connection.execute("SELECT epoch FROM stages WHERE name = ?", (self._name,)).fetchone()[0]
        if epoch != self._epoch:
            raise Fenced(f"a newer process has taken over the stage {self._name!r}; this one must stop")

    def _commit(self, transaction: EmbeddedTransaction) -> None:
        with explained(self._log.path, "write"), writing(self._connection) as connection:
            # Step 1: still ours?
            self._check_epoch(connection)
            # Step 2: the messages, and one more offset in each partition for the end of the transaction.
            for table, rows in transaction.rows.items():
                start = connection.execute("SELECT next FROM partitions WHERE id = ?", (table,)).fetchone()[0]
                connection.executemany(
                    f"INSERT INTO messages_{table} (offset, time_us, key, value, headers) "  # noqa: S608 - a number of our own
                    "VALUES (?, ?, ?, ?, ?)",
                    ((start + n, *row) for n, row in enumerate(rows)),
                )
                connection.execute("UPDATE partitions SET next = ? WHERE id = ?", (start + len(rows) + 1, table))
            # Step 3: the positions and the note.
            if transaction.committed is not None:
                position, note = transaction.committed
                connection.executemany(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                    (
                        (self._name, self._log.prefix + tp.topic, tp.partition, offset)
                        for tp, offset in position.items()
                    ),
                )
                connection.execute("UPDATE stages SET note = ? WHERE name = ?", (note, self._name))

    def _leave_gap(self, transaction: EmbeddedTransaction) -> None:
        """Gives an aborted transaction the offsets that it would have taken, so that nobody relies on none."""
        try:
            with writing(self._connection) as connection:
                for table, rows in transaction.rows.items():
                    connection.execute("UPDATE partitions SET next = next + ? WHERE id = ?", (len(rows) + 1, table))
        except sqlite3.Error as error:
            # Nothing depends on the gap, and the error that aborted the transaction is the one to hear about.
            _logger.debug("no gap for an aborted transaction of %s: %s", self._name, error)


class EmbeddedTransaction:
    """Collects what one SQLite transaction will write; see `recdistill.stream.contract.Transaction`."""

    def __init__(self, log: EmbeddedLog, inputs: Sequence[TopicPartition], turn: int) -> None:
        self._log = log
        self._inputs = inputs
        self._turn = turn
        self._closed = False
        self.rows: dict[int, list[tuple[int, bytes | None, bytes | None, bytes | None]]] = {}
        self.committed: tuple[dict[TopicPartition, int], str] | None = None

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
        tables = self._log.tables(topic)
        partition = check_message(topic, value, key, partition, len(tables), self._turn)
        if time_us is None:
            time_us = time.time_ns() // 1000
        packed = _headers_to_bytes(headers) if headers else None
        self.rows.setdefault(tables[partition], []).append((time_us, key, value, packed))

    def commit_inputs(self, position: Position, note: str = "") -> None:
        """Saves input positions with this transaction; see the contract."""
        self._check_open()
        check_commit(position, note, self._inputs)
        self.committed = (dict(position), note)

    def close(self) -> None:
        """Refuses further use."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("this transaction has ended; open another one")


def _check_range(tp: TopicPartition, offset: int, beginning: int, end: int) -> None:
    if not beginning <= offset <= end:
        raise out_of_range(tp, offset, beginning, end)

"""Writes the embedded log: the one writer of a name, its positions and its fence.

It knows nothing of reading messages.

Example:
    >>> from recdistill.stream.contract import Stage
    >>> {"position", "note", "transaction", "close"} <= set(dir(EmbeddedStage))
    True
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec

from recdistill.errors import Fenced, StreamError
from recdistill.stream.contract import Left, TopicPartition
from recdistill.stream.embedded import generations, owners
from recdistill.stream.embedded.checksum import checksum
from recdistill.stream.embedded.file import explained, writing
from recdistill.stream.embedded.tables import Tables
from recdistill.stream.names import full_name
from recdistill.stream.problems import say_adopted
from recdistill.stream.transaction import Collected, Row

log_ = logging.getLogger(__name__)

_NOTES = (
    "CREATE TABLE IF NOT EXISTS notes (stage TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "
    "note TEXT NOT NULL, PRIMARY KEY (stage, topic, partition)) WITHOUT ROWID"
)
"""Lines of single inputs. It is made here, so that it is also there in a log of an older version."""

_headers_to_bytes = msgspec.msgpack.Encoder().encode


class EmbeddedStage:
    """The one writer of a name; see `recdistill.stream.contract.Stage`."""

    def __init__(
        self,
        tables: Tables,
        name: str,
        inputs: Sequence[TopicPartition],
        *,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> None:
        self._file = tables
        self._shared = shared
        self._name = tables.prefix + name
        self._inputs = tuple(inputs)
        if tables.read_only:
            raise StreamError(f"the log {tables.path} is read-only here, so no stage can work on it")
        self._connection = tables.connect()
        self._open = False
        self._turns = itertools.count()
        with explained(tables.path, "write"), writing(self._connection) as connection:
            self._epoch: int = connection.execute(
                "INSERT INTO stages (name, epoch) VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (self._name,),
            ).fetchone()[0]
            connection.execute(_NOTES)
            generations.renew(connection)
            own = [TopicPartition(full_name(tables.prefix, tp.topic), tp.partition) for tp in self._inputs]
            self._taken = owners.take(connection, self._name, own) if shared else {}
            adopted = owners.adopt(connection, self._name, [tables.prefix + one for one in formerly], own)
        for tp, (offset, former) in adopted.items():
            say_adopted(tp, offset, former, self._name)

    def position(self) -> dict[TopicPartition, int]:
        """Committed next offset of each input."""
        result = {}
        with explained(self._file.path, "read"):
            for tp in self._inputs:
                row = self._connection.execute(
                    "SELECT next FROM positions WHERE stage = ? AND topic = ? AND partition = ?",
                    (self._name, full_name(self._file.prefix, tp.topic), tp.partition),
                ).fetchone()
                if row is None:
                    row = self._connection.execute(
                        "SELECT beginning FROM partitions WHERE id = ?", (self._file.table(tp),)
                    ).fetchone()
                result[tp] = int(row[0])
        return result

    def note(self) -> str:
        """The note of the last commit that had input positions."""
        with explained(self._file.path, "read"):
            row = self._connection.execute("SELECT note FROM stages WHERE name = ?", (self._name,)).fetchone()
        return str(row[0])

    def notes(self) -> dict[TopicPartition, str]:
        """The lines of single inputs, of that commit."""
        known = {(full_name(self._file.prefix, tp.topic), tp.partition): tp for tp in self._inputs}
        with explained(self._file.path, "read"):
            rows = self._connection.execute(
                "SELECT topic, partition, note FROM notes WHERE stage = ?", (self._name,)
            ).fetchall()
        return {known[topic, partition]: str(note) for topic, partition, note in rows if (topic, partition) in known}

    def left(self) -> Left | None:
        """None: this log forgets no position."""
        return None

    def keep(self) -> None:
        """Makes sure that the log is still there. The position needs nothing."""
        self._file.check_there()

    @contextmanager
    def transaction(self) -> Generator[Collected]:
        """Opens a transaction; see the contract."""
        if self._open:
            raise StreamError("a stage has one transaction at a time; leave the open one first")
        self._file.check_there()
        with explained(self._file.path, "read"):
            self._check_epoch(self._connection)
        self._open = True
        transaction = Collected(
            lambda topic: len(self._file.of_topic(topic)), self._inputs, next(self._turns), shared=self._shared
        )
        try:
            yield transaction
        except BaseException:
            self._leave_gap(transaction)
            raise
        else:
            self._commit(transaction)
            self._file.check_there()  # nobody reads what was written into a file without a name
        finally:
            transaction.close()
            self._open = False

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _check_epoch(self, connection: sqlite3.Connection) -> None:
        if self._shared:
            if (lost := owners.lost(connection, self._name, self._taken)) is not None:
                raise Fenced(f"a newer process has taken over {lost} of the stage {self._name!r}; this one must stop")
            return
        epoch = connection.execute("SELECT epoch FROM stages WHERE name = ?", (self._name,)).fetchone()[0]
        if epoch != self._epoch:
            raise Fenced(f"a newer process has taken over the stage {self._name!r}; this one must stop")

    def _commit(self, transaction: Collected) -> None:
        with explained(self._file.path, "write"), writing(self._connection) as connection:
            # Step 1: still ours?
            self._check_epoch(connection)
            # Step 2: the messages, and one more offset in each partition for the end of the transaction.
            for table, rows in self._by_table(transaction).items():
                start = self._take(connection, table, len(rows))
                connection.executemany(
                    f"INSERT INTO messages_{table} (offset, time_us, key, value, headers, crc) "  # noqa: S608 - a number of our own
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (_columns(start + n, row) for n, row in enumerate(rows)),
                )
            # Step 3: the positions and the notes.
            if transaction.committed is not None:
                position, note, notes = transaction.committed
                connection.executemany(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                    (
                        (self._name, full_name(self._file.prefix, tp.topic), tp.partition, offset)
                        for tp, offset in position.items()
                    ),
                )
                connection.execute("UPDATE stages SET note = ? WHERE name = ?", (note, self._name))
                if self._shared:  # the lines of others' inputs stay
                    connection.executemany(
                        "DELETE FROM notes WHERE stage = ? AND topic = ? AND partition = ?",
                        [(self._name, *tp) for tp in self._taken],
                    )
                else:
                    connection.execute("DELETE FROM notes WHERE stage = ?", (self._name,))
                connection.executemany(
                    "INSERT INTO notes VALUES (?, ?, ?, ?)",
                    (
                        (self._name, full_name(self._file.prefix, tp.topic), tp.partition, line)
                        for tp, line in notes.items()
                    ),
                )

    def _leave_gap(self, transaction: Collected) -> None:
        """Uses up the offsets of an aborted transaction, as Kafka does: so nobody relies on having no gaps."""
        try:
            with writing(self._connection) as connection:
                for table, rows in self._by_table(transaction).items():
                    self._take(connection, table, len(rows))
        except sqlite3.Error as error:
            # Nothing depends on the gap. The error that aborted the transaction is the important one.
            log_.debug("no gap for an aborted transaction of %s: %s", self._name, error)

    def _by_table(self, transaction: Collected) -> dict[int, list[Row]]:
        rows: dict[int, list[Row]] = defaultdict(list)
        for row in transaction.rows:
            rows[self._file.table(row.tp)].append(row)
        return rows

    def _take(self, connection: sqlite3.Connection, table: int, messages: int) -> int:
        """Takes offsets for some messages and the end of their transaction. Returns the first one."""
        start = int(connection.execute("SELECT next FROM partitions WHERE id = ?", (table,)).fetchone()[0])
        generations.note(connection, table, start)
        connection.execute("UPDATE partitions SET next = ? WHERE id = ?", (start + messages + 1, table))
        return start


def _columns(offset: int, row: Row) -> tuple[int, int, bytes | None, bytes | None, bytes | None, int]:
    """A message as its table holds it."""
    headers = _headers_to_bytes(row.headers) if row.headers else None
    crc = checksum(offset, row.time_us, row.key, row.value, headers)
    return offset, row.time_us, row.key, row.value, headers, crc

"""Which table of the SQLite file holds which partition, for one prefix.

It knows nothing of stages or of what is inside a message.

Example:
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tables = Tables(f"{folder.name}/log.sqlite", prefix="", options={})
    >>> tables.create({"items": 2})
    ['items']
    >>> tables.counts(), tables.table(TopicPartition("items", 1))
    ({'items': 2}, 2)
    >>> tables.close(); folder.cleanup()
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from recdistill.errors import StreamError
from recdistill.stream.contract import LogIdentity, TopicPartition
from recdistill.stream.embedded.file import (
    Inode,
    Options,
    checked_options,
    connect,
    connect_read_only,
    explained,
    initialise,
    is_read_only,
    writing,
)
from recdistill.stream.names import full_name, outside
from recdistill.stream.problems import check_count, check_growth


class Tables:
    """The topics of one prefix in one file.

    Args:
        path: The file. It and its folder are made if missing.
        prefix: Put before each topic and stage name in the file.
        options: See `EmbeddedLog`.

    Attributes:
        path: The file.
        prefix: The prefix.
        cluster: Id of the log, from when it was made.
    """

    def __init__(self, path: str | Path, *, prefix: str, options: Options) -> None:
        self.path = str(path)
        self.prefix = prefix
        self._options = checked_options(options)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, dict[int, int]]] = {}
        with explained(self.path, "open"):
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StreamError(f"cannot make the folder of the log {self.path}: {error.strerror}") from error
            self.read_only = False
            try:
                self._connection, self.cluster = self._open()
            except sqlite3.Error as error:
                if not is_read_only(error, self.path):
                    raise
                self.read_only = True
                self._connection, self.cluster = self._open()
            self._inode = Inode(self.path)

    def _open(self) -> tuple[sqlite3.Connection, str]:
        """A connection, and the id of the log."""
        connection = connect_read_only(self.path) if self.read_only else connect(self.path, self._options)
        try:
            return connection, initialise(connection, self.path, float(self._options["busy_timeout_s"]))
        except BaseException:
            connection.close()
            raise

    def check_there(self) -> None:
        """Makes sure that the file is still the one that was opened.

        Raises:
            WrongLog: It was removed or replaced.
        """
        self._inode.check()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The log's own connection, for one thread at a time."""
        self.check_there()
        with self._lock, explained(self.path, "read"):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction on the log's own connection, for one thread at a time."""
        self.check_there()
        with self._lock, explained(self.path, "write"), writing(self._connection) as connection:
            yield connection

    def create(self, partitions: Mapping[str, int]) -> list[str]:
        """Makes the topics that do not exist yet, all or none; see `Log.create_topics`."""
        made = []
        with self.writing() as connection:
            for topic, count in partitions.items():
                if not topic or count < 1:
                    raise StreamError(f"topic {topic!r} needs a name and at least 1 partition, not {count}")
                name = self.prefix + topic
                row = connection.execute("SELECT partitions FROM topics WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    check_count(topic, row[0], count)
                    continue
                connection.execute("INSERT INTO topics VALUES (?, ?, ?)", (name, str(uuid.uuid4()), count))
                _make_partitions(connection, name, range(count))
                made.append(topic)
        return made

    def grow(self, partitions: Mapping[str, int]) -> list[str]:
        """Gives topics more partitions, all or none; see `Log.grow_topics`."""
        changed = []
        with self.writing() as connection:
            for topic, count in partitions.items():
                name = self.prefix + topic
                row = connection.execute("SELECT partitions FROM topics WHERE name = ?", (name,)).fetchone()
                if row is None:
                    raise StreamError(f"topic {topic!r} does not exist in the log {self.path}; make the topics first")
                check_growth(topic, row[0], count)
                if row[0] < count:
                    connection.execute("UPDATE topics SET partitions = ? WHERE name = ?", (count, name))
                    _make_partitions(connection, name, range(row[0], count))
                    changed.append(topic)
        self._known.clear()
        return changed

    def counts(self) -> dict[str, int]:
        """Partition count of each topic under the prefix."""
        with self.reading() as connection:
            rows = connection.execute("SELECT name, partitions FROM topics ORDER BY name").fetchall()
        return {name[len(self.prefix) :]: count for name, count in rows if name.startswith(self.prefix)}

    def readable(self) -> dict[str, int]:
        """As `counts`, and others' topics too, under the names by which this log calls them."""
        with self.reading() as connection:
            rows = connection.execute("SELECT name, partitions FROM topics ORDER BY name").fetchall()
        return {outside(self.prefix, name): count for name, count in rows}

    def identity(self, topics: Sequence[str]) -> LogIdentity:
        """Cluster, partition counts and topic ids of these topics."""
        counts = {topic: len(self.of_topic(topic)) for topic in topics}
        return LogIdentity(self.cluster, counts, {topic: self._known[topic][0] for topic in topics})

    def of_topic(self, topic: str) -> dict[int, int]:
        """Number of the table of each partition of a topic. Topics never change, so the answer is kept."""
        found = self._known.get(topic)
        if found is None:
            name = full_name(self.prefix, topic)
            with self.reading() as connection:
                row = connection.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()
                if row is None:
                    raise StreamError(f"topic {topic!r} does not exist in the log {self.path}; make the topics first")
                rows = connection.execute("SELECT partition, id FROM partitions WHERE topic = ?", (name,))
                found = self._known[topic] = (row[0], dict(rows.fetchall()))
        return found[1]

    def table(self, tp: TopicPartition) -> int:
        """Number of the table of a partition."""
        tables = self.of_topic(tp.topic)
        if tp.partition not in tables:
            raise StreamError(f"topic {tp.topic!r} has no partition {tp.partition}; it has 0 to {len(tables) - 1}")
        return tables[tp.partition]

    def connect(self) -> sqlite3.Connection:
        """A new connection, for a source or a stage."""
        self.check_there()
        with explained(self.path, "open"):
            return connect_read_only(self.path) if self.read_only else connect(self.path, self._options)

    def close(self) -> None:
        """Closes the log's own connection."""
        self._connection.close()


def _make_partitions(connection: sqlite3.Connection, name: str, numbers: range) -> None:
    for partition in numbers:
        row_id = connection.execute(
            "INSERT INTO partitions (topic, partition) VALUES (?, ?)", (name, partition)
        ).lastrowid
        # Each partition has a table. So appends go to the end of a tree, where SQLite fills pages completely.
        connection.execute(
            f"CREATE TABLE messages_{row_id} (offset INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, "
            "key BLOB, value BLOB, headers BLOB, crc INTEGER)"
        )

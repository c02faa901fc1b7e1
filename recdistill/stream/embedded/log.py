"""The embedded log as a whole: topics, readers and writers, removal of messages, and safety in a power cut.

It knows nothing of Kafka or what is inside a value.

Example:
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made, stage, tp = log.create_topics({"items": 1}), log.stage("import"), TopicPartition("items", 0)
    >>> for price in (b"3", b"4"):
    ...     with stage.transaction() as transaction:
    ...         transaction.send("items", price, key=b"apple")
    >>> log.compact("items")
    1
    >>> source = log.source(["items"])
    >>> [(message.offset, message.value) for message in source.read()]
    [(2, b'4')]
    >>> log.check_witness({tp: 4}, log.witness({tp: 4}))
    >>> source.close(); stage.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from recdistill.errors import StreamError
from recdistill.stream.contract import (
    LogIdentity,
    Position,
    TopicPartition,
    expand,
)
from recdistill.stream.embedded import generations
from recdistill.stream.embedded.checksum import checksum
from recdistill.stream.embedded.mend import Mended, mend
from recdistill.stream.embedded.source import EmbeddedSource
from recdistill.stream.embedded.stage import EmbeddedStage
from recdistill.stream.embedded.tables import Tables
from recdistill.stream.problems import bad_witness, cut_back, out_of_range, unwitnessed

_AT_ONCE = 2000
"""Messages, and pages of the file, that are removed in one transaction."""

_OVERWRITE = "PRAGMA secure_delete = ON"
"""Else SQLite leaves the bytes of removed messages where they were, until their place is used again."""

_INCREMENTAL = 2
"""SQLite's number for `auto_vacuum = INCREMENTAL`."""


class EmbeddedLog:
    """A log in one SQLite file; see `recdistill.stream.contract.Log`.

    Args:
        path: The file. It and its folder are made if missing. It must be on a local disk.
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
        self._tables = Tables(path, prefix=prefix, options=options or {})
        self.path, self.prefix, self.cluster = self._tables.path, prefix, self._tables.cluster

    def create_topics(
        self,
        partitions: Mapping[str, int],
        *,
        configs: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[str]:
        """Makes the topics that do not exist yet; see the contract."""
        return self._tables.create(partitions)

    def grow_topics(self, partitions: Mapping[str, int]) -> list[str]:
        """Gives topics more partitions; see the contract."""
        return self._tables.grow(partitions)

    def dangers(self) -> list[str]:
        """None: this log loses nothing by itself."""
        return []

    def topics(self) -> dict[str, int]:
        """Partition count of each topic under the prefix."""
        return self._tables.counts()

    def source(
        self, partitions: Sequence[TopicPartition] | Sequence[str], position: Position | None = None
    ) -> EmbeddedSource:
        """Opens a reader; see the contract."""
        return EmbeddedSource(self._tables, expand(partitions, self._tables.readable()), position or {})

    def stage(
        self,
        name: str,
        inputs: Sequence[TopicPartition] = (),
        *,
        shared: bool = False,
        formerly: Sequence[str] = (),
    ) -> EmbeddedStage:
        """Opens the one writer of this name; see the contract."""
        if not name:
            raise StreamError("a stage needs a name")
        inputs = expand(inputs, self._tables.readable())
        return EmbeddedStage(self._tables, name, inputs, shared=shared, formerly=formerly if shared else ())

    def identity(self, topics: Sequence[str]) -> LogIdentity:
        """Cluster, partition counts and topic ids of these topics."""
        return self._tables.identity(topics)

    def sync(self) -> None:
        """Flushes every committed transaction to the disk, of all processes.

        SQLite writes a commit to a second file (`-wal`). Later it moves pages from there to the log itself. Before that
        it flushes `-wal`, and after that the log. So a commit is in `-wal`, or it is already safe in the log, and
        flushing `-wal` is enough. It does not help to ask SQLite to move pages: while another process reads, it may
        move and flush nothing, and gives no error.
        """
        try:
            for path, flags in (
                (f"{self.path}-wal", os.O_RDONLY),
                (Path(self.path).parent, os.O_RDONLY | os.O_DIRECTORY),
            ):
                # Do not open and close the log's own file here: that drops SQLite's locks on it.
                handle = os.open(path, flags)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise StreamError(
                f"cannot flush the log {self.path} to the disk: {error.strerror}; check the disk, and that the log is "
                "still there"
            ) from error

    def witness(self, position: Position) -> dict[str, str]:
        """A witness of the messages before these positions, as generations; see the contract."""
        self.sync()
        tables = {tp: self._tables.table(tp) for tp in position}
        with self._tables.reading() as connection:
            found = {tp: generations.witness(connection, tables[tp], offset) for tp, offset in position.items()}
        return {str(tp): text for tp, text in found.items() if text is not None}

    def check_witness(self, position: Position, witness: Mapping[str, str] | None) -> None:
        """Checks that the log was not cut back since; see the contract."""
        tables = {tp: self._tables.table(tp) for tp in position}
        if witness is None and unwitnessed(position):
            return
        with self._tables.reading() as connection:
            for tp, offset in position.items():
                beginning, end = connection.execute(
                    "SELECT beginning, next FROM partitions WHERE id = ?", (tables[tp],)
                ).fetchone()
                if not beginning <= offset <= end:
                    raise out_of_range(tp, offset, beginning, end)
                if (text := (witness or {}).get(str(tp))) is not None:
                    try:
                        cut = generations.cut(connection, tables[tp], offset, text)
                    except ValueError as error:
                        raise bad_witness(tp, text) from error
                    if cut is not None:
                        raise cut_back(tp, offset, cut.offset, at_most=cut.at_most)

    def trim(self, tp: TopicPartition, before: int) -> None:
        """Removes the messages with offsets below `before`, as retention does in Kafka.

        Args:
            tp: The partition.
            before: First offset to keep; at most the end.
        """
        table = self._tables.table(tp)
        with self._tables.writing() as connection:
            beginning = connection.execute(
                "UPDATE partitions SET beginning = max(beginning, min(next, ?)) WHERE id = ? RETURNING beginning",
                (before, table),
            ).fetchone()[0]
            generations.forget(connection, table, beginning)
        # Nobody reads what lies before the beginning. So it goes in small parts, and others can write in between.
        removed = _AT_ONCE
        while removed == _AT_ONCE:
            with self._tables.writing() as connection:
                removed = connection.execute(
                    f"DELETE FROM messages_{table} WHERE offset IN "  # noqa: S608 - a number of our own
                    f"(SELECT offset FROM messages_{table} WHERE offset < ? ORDER BY offset LIMIT ?)",
                    (beginning, _AT_ONCE),
                ).rowcount

    def first_since(self, tp: TopicPartition, time_us: int) -> int:
        """The first offset that the log took at a time or later; the end if there is none."""
        table = self._tables.table(tp)
        with self._tables.reading() as connection:
            return int(
                connection.execute(
                    f"SELECT coalesce((SELECT min(offset) FROM messages_{table} WHERE time_us >= ?), "  # noqa: S608 - a number of our own
                    "(SELECT next FROM partitions WHERE id = ?))",
                    (time_us, table),
                ).fetchone()[0]
            )

    def positions(self) -> dict[str, dict[TopicPartition, int]]:
        """The committed positions of every stage that was ever opened under the prefix, by its name."""
        start = len(self.prefix)
        with self._tables.reading() as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM stages ORDER BY name")]
            rows = connection.execute("SELECT stage, topic, partition, next FROM positions").fetchall()
        found: dict[str, dict[TopicPartition, int]] = {n[start:]: {} for n in names if n.startswith(self.prefix)}
        for name, topic, partition, offset in rows:
            if name.startswith(self.prefix) and topic.startswith(self.prefix):
                found.setdefault(name[start:], {})[TopicPartition(topic[start:], partition)] = offset
        return found

    def noted(self, stage: str, inputs: Sequence[TopicPartition]) -> dict[TopicPartition, str]:
        """What the last commit of a stage noted for single inputs; see the contract."""
        wanted = {(self.prefix + tp.topic, tp.partition): tp for tp in inputs}
        with self._tables.reading() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchone() is None:
                return {}  # an older version made the log
            rows = connection.execute(
                "SELECT topic, partition, note FROM notes WHERE stage = ?", (self.prefix + stage,)
            ).fetchall()
        return {wanted[topic, number]: str(note) for topic, number, note in rows if (topic, number) in wanted}

    def shrink(self) -> int:
        """Gives the space of removed messages back to the disk. Returns how many bytes the file became smaller.

        A log of an older version is written anew once. Nobody else can write meanwhile.
        """
        before = _size(self.path)
        with self._tables.reading() as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")
            while connection.execute("PRAGMA freelist_count").fetchone()[0]:
                connection.execute(f"PRAGMA incremental_vacuum({_AT_ONCE})").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return max(0, before - _size(self.path))

    def compact(self, topic: str) -> int:
        """Keeps the newest message of each key, as compaction does in Kafka. The others leave holes.

        Messages without a key stay. A newest message without a value (a tombstone) stays too.

        Args:
            topic: The topic, all of its partitions.

        Returns:
            How many messages were removed.
        """
        removed = 0
        for table in self._tables.of_topic(topic).values():
            with self._tables.writing() as connection:
                removed += connection.execute(
                    f"DELETE FROM messages_{table} WHERE key IS NOT NULL AND offset NOT IN "  # noqa: S608 - a number of our own
                    f"(SELECT max(offset) FROM messages_{table} WHERE key IS NOT NULL GROUP BY key)"
                ).rowcount
        return removed

    def remove(self, tp: TopicPartition, offsets: Iterable[int]) -> int:
        """Removes single messages, for example all records of one person. They leave holes.

        Args:
            tp: The partition.
            offsets: Offsets of the messages. An offset without a message is ignored.

        Returns:
            How many messages were removed.
        """
        table = self._tables.table(tp)
        with self._tables.writing() as connection:
            connection.execute(_OVERWRITE)
            return connection.executemany(
                f"DELETE FROM messages_{table} WHERE offset = ?",  # noqa: S608 - a number of our own
                [(offset,) for offset in offsets],
            ).rowcount

    def blank(self, tp: TopicPartition, offsets: Iterable[int]) -> int:
        """Empties single messages: no key, no value, no headers. Their places stay, for who counts them in turn.

        Args:
            tp: The partition.
            offsets: Offsets of the messages. An offset without a message is ignored.

        Returns:
            How many messages were emptied now.
        """
        table, blanked = self._tables.table(tp), 0
        with self._tables.writing() as connection:
            connection.execute(_OVERWRITE)
            for offset in offsets:
                found = connection.execute(
                    f"SELECT time_us FROM messages_{table} WHERE offset = ? AND value IS NOT NULL",  # noqa: S608 - a number of our own
                    (offset,),
                ).fetchone()
                if found is not None:
                    connection.execute(
                        f"UPDATE messages_{table} SET key = NULL, value = NULL, headers = NULL, crc = ? "  # noqa: S608 - as above
                        "WHERE offset = ?",
                        (checksum(offset, found[0], None, None, None), offset),
                    )
                    blanked += 1
        return blanked

    def scrub(self) -> bool:
        """Gives back what `remove` and `blank` have overwritten, in the file and in the one beside it.

        Returns:
            Whether nothing is left. Another process that reads at this moment may keep older pages.
        """
        self.shrink()  # whole pages that are free
        with self._tables.reading() as connection:
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def mend(self) -> Mended:
        """Looks at every message, and moves those whose checksum is wrong to the dead letters.

        They leave holes; in `examples` their places stay, for who counts them in turn.

        Raises:
            StreamError: The file is damaged in a way that hides messages.
        """
        with closing(self.stage("mend")) as stage:
            return mend(self._tables, stage)

    def close(self) -> None:
        """Closes the log's own connection."""
        self._tables.close()


def _size(path: str) -> int:
    """Bytes of the log and of what was not moved into it yet."""
    return sum(each.stat().st_size for each in (Path(path), Path(f"{path}-wal")) if each.exists())

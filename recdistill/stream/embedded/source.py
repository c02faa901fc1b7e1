"""Reads the embedded log: a cursor of committed messages for each partition.

It knows nothing of writing.

Example:
    >>> from recdistill.stream.contract import Source
    >>> {"read", "read_from", "bounds", "position", "seek"} <= set(dir(EmbeddedSource))
    True
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from recdistill.errors import Damaged, StreamError
from recdistill.stream.contract import LogIdentity, Message, Position, TopicPartition
from recdistill.stream.embedded.checksum import problem
from recdistill.stream.embedded.file import explained
from recdistill.stream.embedded.tables import Tables
from recdistill.stream.names import full_name
from recdistill.stream.problems import grown, out_of_range

_POLL_S = (0.002, 0.02)
_LOOK_S = 1.0
"""How often a source that has something to read looks at the number of partitions."""

_headers_from_bytes = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


class EmbeddedSource:
    """Reads committed messages; see `recdistill.stream.contract.Source`."""

    def __init__(self, tables: Tables, tps: Sequence[TopicPartition], position: Position) -> None:
        self._file = tables
        self._tables = {tp: tables.table(tp) for tp in tps}
        self._connection = tables.connect()
        self._turn = 0
        self._crc = {table: self._crc_of(table) for table in self._tables.values()}
        self._counts = {topic: len(tables.of_topic(topic)) for topic in {tp.topic for tp in tps}}
        self._look_again = 0.0
        self._position = {tp: self.bounds(tp)[0] for tp in tps}
        try:
            self.seek(position)
        except StreamError:
            self.close()
            raise

    def identity(self) -> LogIdentity:
        """What the positions of this source belong to."""
        return self._file.identity(sorted({tp.topic for tp in self._tables}))

    def read(self, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from all partitions that have messages."""
        tps = list(self._tables)
        # Start with another partition each time, so that no partition has to wait for a full one.
        self._turn = (self._turn + 1) % max(1, len(tps))
        return self._wait([*tps[self._turn :], *tps[: self._turn]], max_messages, timeout_s)

    def read_from(self, tp: TopicPartition, max_messages: int = 1000, timeout_s: float = 1.0) -> list[Message]:
        """Reads from one partition."""
        self._table(tp)
        return self._wait([tp], max_messages, timeout_s)

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Beginning and committed end of a partition."""
        self._file.check_there()
        with explained(self._file.path, "read"):
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

    def _crc_of(self, table: int) -> str:
        """What stands for the checksum. A log of an older version that can only be read has none."""
        with explained(self._file.path, "read"):
            columns = self._connection.execute("SELECT name FROM pragma_table_info(?)", (f"messages_{table}",))
            return "crc" if ("crc",) in columns.fetchall() else "NULL"

    def _table(self, tp: TopicPartition) -> int:
        if tp not in self._tables:
            raise StreamError(f"{tp} is not a partition of this source; it has {', '.join(map(str, self._tables))}")
        return self._tables[tp]

    def _wait(self, tps: Sequence[TopicPartition], max_messages: int, timeout_s: float) -> list[Message]:
        deadline = time.monotonic() + timeout_s
        pause_s = _POLL_S[0]
        seen = -1
        self._file.check_there()
        while True:
            with explained(self._file.path, "read"):
                # This costs little, and changes whenever another connection has committed.
                version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    self._check_counts()
                    messages = self._read_now(tps, max_messages)
                    if messages:
                        return messages
                    seen = version
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _POLL_S[1])

    def _check_counts(self) -> None:
        """Whether the topics still have as many partitions as at the start. It asks once in a while."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + _LOOK_S
        for topic, before in self._counts.items():
            row = self._connection.execute(
                "SELECT partitions FROM topics WHERE name = ?", (full_name(self._file.prefix, topic),)
            ).fetchone()
            if row[0] != before:
                raise grown(topic, before, row[0])

    def _read_now(self, tps: Sequence[TopicPartition], max_messages: int) -> list[Message]:
        messages: list[Message] = []
        connection = self._connection
        position = dict(self._position)
        # Read from one snapshot. Otherwise a trim between two statements could remove messages without OutOfRange.
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
                    f"SELECT offset, key, value, time_us, headers, {self._crc[table]} FROM messages_{table} "  # noqa: S608 - a number of our own
                    "WHERE offset >= ? ORDER BY offset LIMIT ?",
                    (start, wanted),
                ).fetchall()
                whole = list(itertools.takewhile(_is_whole, rows))
                messages.extend(
                    Message(
                        tp=tp,
                        offset=offset,
                        key=key,
                        value=value,
                        time_us=time_us,
                        headers=_headers_from_bytes(headers) if headers else (),
                    )
                    for offset, key, value, time_us, headers, _ in whole
                )
                if len(whole) < len(rows):
                    # Hand out what is before it. The next read begins with it.
                    if not whole:
                        raise damaged(self._file.path, tp, rows[0][0])
                    position[tp] = whole[-1][0] + 1
                    continue
                # After the last message there may be only the end of its transaction: pass that too.
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


def _check_range(tp: TopicPartition, offset: int, beginning: int, end: int) -> None:
    if not beginning <= offset <= end:
        raise out_of_range(tp, offset, beginning, end)


def _is_whole(row: tuple[Any, ...]) -> bool:
    offset, key, value, time_us, headers, crc = row
    return not problem(offset, time_us, key, value, headers, crc)


def damaged(path: str, tp: TopicPartition, offset: int) -> Damaged:
    """The error for a message that is not what was written."""
    return Damaged(
        f"the message at offset {offset} of {tp} in the log {path} is damaged (its checksum is wrong): a disk or a "
        "copy has changed its bytes; put back a copy of the file, or type `recdistill topics mend`, which moves "
        "damaged messages to the dead letters"
    )

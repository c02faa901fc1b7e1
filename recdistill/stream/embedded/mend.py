"""Looks at every message of the embedded log, and moves damaged ones to the dead letters.

A letter has the bytes as they are now, so that a person can look at them. The message itself goes, and leaves a hole,
as compaction does. In `examples` its place stays, empty: the lanes count in turn. A mend that was killed may write a
letter again: its topic, partition and offset are the same.

It knows nothing of what is inside a value.

Example:
    >>> Mended(checked=7, unchecked=0, moved=(("items/0", 3),)).moved
    (('items/0', 3),)
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from recdistill.errors import Damaged
from recdistill.stream.contract import Message, Stage, TopicPartition
from recdistill.stream.embedded.checksum import checksum, problem
from recdistill.stream.embedded.tables import Tables
from recdistill.stream.letters import Delivery, deliver

_COUNTED: Final = "examples"
"""The topic whose records are read in turn, one from each partition."""

_BLOCK: Final = 2_000
"""Messages looked at at once."""


class Mended(NamedTuple):
    """What a mend found."""

    checked: int
    """Messages with a checksum."""
    unchecked: int
    """Messages of an older version, without one."""
    moved: tuple[tuple[str, int], ...]
    """Partition and offset of each damaged message."""


def mend(tables: Tables, stage: Stage) -> Mended:
    """Moves every damaged message to the dead letters; see `EmbeddedLog.mend`.

    Args:
        tables: The log.
        stage: Writes the letters.
    """
    checked = unchecked = 0
    moved: list[tuple[str, int]] = []
    for topic, partitions in tables.counts().items():
        for tp in (TopicPartition(topic, partition) for partition in range(partitions)):
            table, after = tables.table(tp), -1
            while rows := _block(tables, table, after):
                after = rows[-1][0]
                checked += sum(row[-1] is not None for row in rows)
                unchecked += sum(row[-1] is None for row in rows)
                for offset, key, value, time_us, headers, crc in rows:
                    if problem(offset, time_us, key, value, headers, crc):
                        damaged = Message(tp=tp, offset=offset, key=_bytes(key), value=_bytes(value), time_us=0)
                        _move(tables, stage, table, damaged)
                        moved.append((str(tp), offset))
    return Mended(checked, unchecked, tuple(moved))


def _block(tables: Tables, table: int, after: int) -> list[Any]:
    with tables.reading() as connection:
        return connection.execute(
            f"SELECT offset, key, value, time_us, headers, crc FROM messages_{table} "  # noqa: S608 - a number of our own
            "WHERE offset > ? ORDER BY offset LIMIT ?",
            (after, _BLOCK),
        ).fetchall()


def _move(tables: Tables, stage: Stage, table: int, message: Message) -> None:
    why = Damaged("its checksum is wrong: a disk or a copy has changed its bytes")
    deliver(stage, "mend", lambda _: Delivery(dead=[(message, why)]))
    offset = message.offset
    with tables.writing() as connection:
        if message.tp.topic == _COUNTED:
            connection.execute(
                f"UPDATE messages_{table} SET time_us = 0, key = NULL, value = NULL, headers = NULL, crc = ? "  # noqa: S608 - a number of our own
                "WHERE offset = ?",
                (checksum(offset, 0, None, None, None), offset),
            )
            return
        connection.execute(f"DELETE FROM messages_{table} WHERE offset = ?", (offset,))  # noqa: S608 - a number of our own


def _bytes(part: Any) -> bytes | None:
    """A column of a damaged row, which may have any type."""
    return part if part is None or isinstance(part, bytes) else str(part).encode()

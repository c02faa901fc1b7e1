"""Generations: how the embedded log notices that it was cut back and has grown again.

A generation has a random name. Each stage that opens starts a new generation of the log. In a new generation, the first
transaction that writes to a partition notes the offset where the generation begins there. A loss of power ends every
process, and so does putting a copy back. So everything that is written afterwards belongs to a new generation.

The witness of a position is the generation of the offset just before it. The witness holds as long as that generation
is still known and goes up to the position. Messages do not matter here: trimming, compaction and the removal of single
messages change nothing. Kafka has the same idea, with the name leader epochs.

It knows nothing of messages.

Example:
    >>> import sqlite3
    >>> connection = sqlite3.connect(":memory:")
    >>> make(connection)
    >>> renew(connection); note(connection, 1, 0); first = witness(connection, 1, 5)
    >>> renew(connection); note(connection, 1, 7)   # as after a cut at offset 7
    >>> cut(connection, 1, 7, first), cut(connection, 1, 8, first)
    (None, Cut(offset=7, at_most=False))
"""

from __future__ import annotations

import sqlite3
import uuid
from typing import NamedTuple

_SCHEMA = """
CREATE TABLE generation (name TEXT NOT NULL);
CREATE TABLE generations (
    partition INTEGER NOT NULL, start INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (partition, start)
) WITHOUT ROWID;
"""


class Cut(NamedTuple):
    """Where a log was cut back: at this offset, or with `at_most` perhaps before it."""

    offset: int
    at_most: bool


def make(connection: sqlite3.Connection) -> None:
    """Makes the tables of a new log. Inside a transaction."""
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO generation VALUES (?)", (uuid.uuid4().hex,))


def adopt(connection: sqlite3.Connection) -> None:
    """Makes the tables in a log of an older version. All its messages are one generation. Inside a transaction."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'generations'").fetchone() is None:
        make(connection)
        connection.execute("INSERT INTO generations SELECT id, 0, name FROM partitions, generation WHERE next > 0")
        renew(connection)


def renew(connection: sqlite3.Connection) -> None:
    """Begins a new generation. Inside a transaction."""
    connection.execute("UPDATE generation SET name = ?", (uuid.uuid4().hex,))


def note(connection: sqlite3.Connection, partition: int, start: int) -> None:
    """Notes where the present generation begins in a partition, if it has not written there before.

    Args:
        connection: Inside of the transaction that writes.
        partition: Number of the partition in the file.
        start: First offset that this transaction takes.
    """
    connection.execute(
        "INSERT INTO generations SELECT ?, ?, name FROM generation WHERE name IS NOT "
        "(SELECT name FROM generations WHERE partition = ? ORDER BY start DESC LIMIT 1)",
        (partition, start, partition),
    )


def forget(connection: sqlite3.Connection, partition: int, before: int) -> None:
    """Forgets generations that ended before the offset just before `before`.

    `trim` calls this: no position needs them.
    """
    connection.execute(
        "DELETE FROM generations WHERE partition = ? AND start < "
        "(SELECT max(start) FROM generations WHERE partition = ? AND start < ?)",
        (partition, partition, before),
    )


def witness(connection: sqlite3.Connection, partition: int, offset: int) -> str | None:
    """The generation of the offset just before this one, as `start:name`; None if nothing was ever written there."""
    row = connection.execute(
        "SELECT start, name FROM generations WHERE partition = ? AND start < ? ORDER BY start DESC LIMIT 1",
        (partition, offset),
    ).fetchone()
    return None if row is None else f"{row[0]}:{row[1]}"


def cut(connection: sqlite3.Connection, partition: int, offset: int, witness: str) -> Cut | None:
    """Where the partition was cut back since the witness of this offset was taken; None if it was not.

    Raises:
        ValueError: The text is no witness.
    """
    start_text, _, name = witness.partition(":")
    start = int(start_text)
    if not name:
        raise ValueError(witness)
    known = connection.execute(
        "SELECT 1 FROM generations WHERE partition = ? AND start = ? AND name = ?", (partition, start, name)
    ).fetchone()
    # An unknown generation: the cut took its beginning too. Else the next one must not begin before the position.
    if known is None:
        return Cut(start, at_most=True)
    following = connection.execute(
        "SELECT min(start) FROM generations WHERE partition = ? AND start > ?", (partition, start)
    ).fetchone()[0]
    return None if following is None or offset <= following else Cut(int(following), at_most=False)

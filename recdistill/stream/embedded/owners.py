"""Who has which input of a stage that several processes share, and where its positions stood in older versions.

Each input has a number. A process that opens the stage raises the numbers of its inputs, and looks at them again in
each transaction. So a process that was paused, or that nobody ended, cannot write about an input that has moved on.

It knows nothing of messages.

Example:
    >>> import sqlite3
    >>> connection, tp = sqlite3.connect(":memory:"), TopicPartition("impressions", 0)
    >>> first = take(connection, "score", [tp])
    >>> second = take(connection, "score", [tp])
    >>> lost(connection, "score", first), lost(connection, "score", second)
    (TopicPartition(topic='impressions', partition=0), None)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from recdistill.stream.contract import TopicPartition

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS owners (stage TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "
    "epoch INTEGER NOT NULL, PRIMARY KEY (stage, topic, partition)) WITHOUT ROWID"
)

Taken = Mapping[TopicPartition, int]
"""The number of each input when it was taken."""


def take(connection: sqlite3.Connection, stage: str, inputs: Sequence[TopicPartition]) -> Taken:
    """Takes inputs over from whoever has them. Inside a transaction.

    Args:
        connection: The log.
        stage: Name of the stage in the file.
        inputs: The inputs, with the names of topics in the file.
    """
    connection.execute(_SCHEMA)
    return {
        tp: connection.execute(
            "INSERT INTO owners VALUES (?, ?, ?, 1) "
            "ON CONFLICT (stage, topic, partition) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
            (stage, *tp),
        ).fetchone()[0]
        for tp in inputs
    }


def lost(connection: sqlite3.Connection, stage: str, taken: Taken) -> TopicPartition | None:
    """An input that another process has taken over since; None if all are still ours."""
    rows = connection.execute("SELECT topic, partition, epoch FROM owners WHERE stage = ?", (stage,)).fetchall()
    now = {TopicPartition(topic, partition): epoch for topic, partition, epoch in rows}
    return next((tp for tp, epoch in taken.items() if now.get(tp) != epoch), None)


def adopt(
    connection: sqlite3.Connection, stage: str, formerly: Sequence[str], inputs: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, str]]:
    """Gives inputs without a position the furthest one under older names, and fences who works there.

    Inside a transaction.

    Args:
        connection: The log.
        stage: Name of the stage in the file.
        formerly: Older names in the file.
        inputs: The inputs, with the names of topics in the file.

    Returns:
        The position that each of these inputs took over, and from which name.
    """
    found: dict[TopicPartition, tuple[int, str]] = {}
    names = frozenset(formerly)
    for tp in inputs:
        rows = connection.execute(
            "SELECT next, stage FROM positions WHERE topic = ? AND partition = ? ORDER BY next DESC", tuple(tp)
        ).fetchall()
        if any(name == stage for _, name in rows):
            continue
        before = [(int(offset), str(name)) for offset, name in rows if name in names]
        for _, name in before:
            connection.execute("UPDATE stages SET epoch = epoch + 1 WHERE name = ?", (name,))
        if before:
            found[tp] = before[0]
            connection.execute("INSERT INTO positions VALUES (?, ?, ?, ?)", (stage, *tp, before[0][0]))
    return found

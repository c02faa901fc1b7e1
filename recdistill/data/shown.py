"""Lists that say themselves what was clicked, as MIND writes them -> impressions and their feedback.

A cell such as `N1-0 N2-1` holds the items and, behind the last `-`, whether each was clicked. Or a column of its own
has the clicked items, or a flag for each candidate. The rest of the module is for whole tables: records in the order of
their time, and bare records for items that the lists name and nobody described.

It knows nothing of cells, files or logs.

Example:
    >>> split_labels(["N1-0", "N-2-1"], "-")
    (['N1', 'N-2'], ['N-2'])
    >>> [(one.id, one.item, one.time_us) for one in feedback_of(Impression("r", 5), ["b"], "click")]
    [('r/b/click', 'b', 6)]
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from recdistill.errors import DataError
from recdistill.records import Feedback, Impression, Item, Record, decode, encode

DEFAULT_ACTION = "click"
"""What a clicked candidate gets, where the table does not say it."""

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_KINDS: tuple[type[Record], ...] = (Item, Impression, Feedback)


def split_labels(entries: Sequence[str], separator: str) -> tuple[list[str], list[str]]:
    """Candidates with their labels -> the items, and which of them were clicked.

    Args:
        entries: Each is an item, the separator and 0 or 1.
        separator: What stands between the two. The last one of an entry counts.

    Raises:
        ValueError: An entry has no label.
    """
    items, clicked = [], []
    for entry in entries:
        item, found, label = entry.rpartition(separator)
        if not found or label.lower() not in _YES | _NO:
            raise ValueError(f"must be items with {separator}0 or {separator}1 behind each, not {entry[:40]!r}")
        items.append(item)
        if label.lower() in _YES:
            clicked.append(item)
    return items, clicked


def clicked_of(entries: Sequence[str], candidates: Sequence[str]) -> list[str]:
    """The clicked items. The entries are these items, or a flag for each candidate.

    Raises:
        ValueError: An entry is neither.
    """
    flags = [entry.lower() for entry in entries]
    if len(flags) == len(candidates) and set(flags) <= _YES | _NO and not set(entries) <= set(candidates):
        return [item for item, flag in zip(candidates, flags, strict=True) if flag in _YES]
    offered = set(candidates)
    for entry in entries:
        if entry not in offered:
            raise ValueError(
                f"must be candidates of the list, or 0 or 1 for each of the {len(candidates)} candidates, "
                f"not {entry[:40]!r}"
            )
    return list(dict.fromkeys(entries))


def feedback_of(shown: Impression, clicked: Sequence[str], action: str) -> list[Feedback]:
    """Feedback on a list, a microsecond after it: nobody said when it was clicked."""
    return [
        Feedback(
            id=f"{shown.id}/{item}/{action}",
            impression_id=shown.id,
            item=item,
            action=action,
            time_us=shown.time_us + 1,
        )
        for item in clicked
    ]


def in_order(records: Iterable[Record]) -> Iterator[Record]:
    """Records in the order of their time; those of equal time keep their order. They wait in a file, not in memory.

    A stage reads time from the records, so a table that jumps in time would look like feedback that comes too late.

    Raises:
        DataError: The disk is full, or a record is none of items, impressions and feedback.
    """
    with tempfile.TemporaryDirectory(prefix="recdistill-order-") as folder:
        try:
            with closing(sqlite3.connect(Path(folder) / "order.sqlite", isolation_level=None)) as file:
                file.execute("PRAGMA journal_mode = OFF")
                file.execute("CREATE TABLE records (time_us INTEGER, kind INTEGER, value BLOB)")
                file.execute("BEGIN")
                for record in records:
                    if type(record) not in _KINDS:
                        raise DataError(f"a {type(record).__name__.lower()} cannot be put in the order of time")
                    kind = _KINDS.index(type(record))
                    file.execute(
                        "INSERT INTO records VALUES (?, ?, ?)",
                        (record.time_us, kind, encode(record)),  # type: ignore[union-attr]
                    )
                file.execute("COMMIT")
                for kind, value in file.execute("SELECT kind, value FROM records ORDER BY time_us, rowid"):
                    yield decode(_KINDS[kind], value)
        except sqlite3.Error as e:
            raise DataError(f"the rows cannot be sorted by time: {e}; is there room in {tempfile.gettempdir()}?") from e


def with_items(records: Iterable[Record], known: set[str]) -> Iterator[Record]:
    """The records, and a bare item before the first list that names an item which nobody described.

    Args:
        records: Impressions and feedback.
        known: Ids of items that are described already. The new ones are added.
    """
    for record in records:
        if isinstance(record, Item):
            known.add(record.id)
        elif isinstance(record, Impression):
            for name in [event.item for event in record.history] + [one.item for one in record.candidates]:
                if name not in known:
                    known.add(name)
                    yield Item(id=name)
        yield record

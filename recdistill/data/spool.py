"""Records of a table in the order of their time. They wait in a file, so a table may be larger than memory.

A stage reads time from the records. So a table whose rows are in any order would look to it like feedback that comes
days too late.

It knows nothing of tables or logs.

Example:
    >>> with Spool() as spool:
    ...     spool.fill([Impression("b", 7), Impression("a", 5), Impression("c", 7)])
    ...     [one.id for one in spool], spool.unsorted
    (['a', 'b', 'c'], True)
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from recdistill.errors import DataError, Interrupted
from recdistill.progress import Progress
from recdistill.records import Feedback, Impression, Item, Record, decode, encode

_KINDS = (Impression, Feedback)


class Spool:
    """Impressions and feedback, sorted by time; those of equal time keep their order. Can be read again and again.

    Attributes:
        unsorted: Whether they came in another order.
    """

    def __init__(self) -> None:
        self.unsorted = False
        self._folder = tempfile.TemporaryDirectory(prefix="recdistill-spool-")
        self._file = sqlite3.connect(Path(self._folder.name) / "spool.sqlite", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("CREATE TABLE records (time_us INTEGER, kind INTEGER, value BLOB)")

    def fill(
        self, records: Iterable[Record], *, stop: threading.Event | None = None, progress: Progress | None = None
    ) -> None:
        """Takes records.

        Raises:
            DataError: A record breaks a rule, or the disk is full.
            Interrupted: It was stopped.
        """
        latest = 0
        try:
            self._file.execute("BEGIN")
            for number, record in enumerate(records, 1):
                if not isinstance(record, _KINDS):
                    raise DataError(f"a {type(record).__name__.lower()} cannot be put in the order of time")
                self.unsorted |= record.time_us < latest
                latest = max(latest, record.time_us)
                entry = (record.time_us, _KINDS.index(type(record)), encode(record))
                self._file.execute("INSERT INTO records VALUES (?, ?, ?)", entry)
                if progress and number % 1000 == 0:
                    progress(number, None)
                if stop and stop.is_set():
                    raise Interrupted("stopped while the records were checked; nothing was written")
            self._file.execute("COMMIT")
            self._file.execute("CREATE INDEX by_time ON records (time_us)")
        except sqlite3.Error as e:
            raise _full(e) from e

    def __iter__(self) -> Iterator[Record]:
        try:
            # The order of the rows breaks ties.
            for kind, value in self._file.execute("SELECT kind, value FROM records ORDER BY time_us, rowid"):
                yield decode(_KINDS[kind], value)
        except sqlite3.Error as e:
            raise _full(e) from e

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()


def unknown_items(records: Iterable[Record], known: set[str]) -> list[Item]:
    """A bare item for each id that lists name and nobody described, in the order in which they come.

    Args:
        records: Impressions and feedback.
        known: Ids of the items that are described.
    """
    found: dict[str, None] = {}
    for record in records:
        if isinstance(record, Impression):
            found.update(dict.fromkeys(event.item for event in record.history))
            found.update(dict.fromkeys(one.item for one in record.candidates))
    return [Item(id=name) for name in found if name not in known]


def _full(error: sqlite3.Error) -> DataError:
    return DataError(f"the rows cannot be sorted by time: {error}; is there room in {tempfile.gettempdir()}?")

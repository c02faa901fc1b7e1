"""Encoded records of a table wait in a file until they are written.

So a table is read once, and it may be larger than memory.

A stage reads time from the records. So a table whose rows are in any order would look to it like feedback that comes
days too late. The spool gives them back in the order of their time, or in the order in which they came.

It knows nothing of tables or logs.

Example:
    >>> from recdistill.records import encoded
    >>> with Spool() as spool:
    ...     spool.fill(map(encoded, [Impression("b", 7), Impression("a", 5), Impression("c", 7)]))
    ...     [one.key.decode() for one in spool], spool.unsorted
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
from recdistill.records import Encoded, Example, Feedback, Impression, Item, Ranking, Record, decode

_KINDS: tuple[type[Record], ...] = (Impression, Feedback, Item, Ranking, Example)


class Spool:
    """Records by time, or as they came; those of equal time keep their order. Can be read again and again.

    Args:
        by_time: Whether they are sorted by time.

    Attributes:
        unsorted: Whether their time was in another order when they came.
    """

    def __init__(self, *, by_time: bool = True) -> None:
        self.unsorted = False
        self._by_time = by_time
        self._folder = tempfile.TemporaryDirectory(prefix="recdistill-spool-")
        self._file = sqlite3.connect(Path(self._folder.name) / "spool.sqlite", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("CREATE TABLE records (time_us INTEGER, kind INTEGER, key BLOB, value BLOB)")

    def fill(
        self, records: Iterable[Encoded], *, stop: threading.Event | None = None, progress: Progress | None = None
    ) -> None:
        """Takes records.

        Raises:
            DataError: The disk is full.
            Interrupted: It was stopped.
        """
        latest = 0
        try:
            self._file.execute("BEGIN")
            for number, one in enumerate(records, 1):
                self.unsorted |= one.time_us < latest
                latest = max(latest, one.time_us)
                entry = (one.time_us, _KINDS.index(one.kind), one.key, one.value)
                self._file.execute("INSERT INTO records VALUES (?, ?, ?, ?)", entry)
                if progress and number % 1000 == 0:
                    progress(number, None)
                if stop and stop.is_set():
                    raise Interrupted("stopped while the records were checked; nothing was written")
            self._file.execute("COMMIT")
            if self._by_time:
                self._file.execute("CREATE INDEX by_time ON records (time_us)")
        except sqlite3.Error as e:
            raise _full(e) from e

    def __iter__(self) -> Iterator[Encoded]:
        # The order in which they came breaks ties.
        order = "time_us, rowid" if self._by_time else "rowid"
        try:
            for time_us, kind, key, value in self._file.execute(
                f"SELECT time_us, kind, key, value FROM records ORDER BY {order}"  # noqa: S608  one of two constants
            ):
                yield Encoded(_KINDS[kind], key, value, time_us)
        except sqlite3.Error as e:
            raise _full(e) from e

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()


def unknown_items(records: Iterable[Encoded], known: set[str]) -> list[Item]:
    """A bare item for each id that lists name and nobody described, in the order in which they come.

    Args:
        records: Impressions and other records.
        known: Ids of the items that are described.
    """
    found: dict[str, None] = {}
    for one in records:
        if one.kind is Impression:
            shown = decode(Impression, one.value)
            found.update(dict.fromkeys(event.item for event in shown.history))
            found.update(dict.fromkeys(candidate.item for candidate in shown.candidates))
    return [Item(id=name) for name in found if name not in known]


def _full(error: sqlite3.Error) -> DataError:
    where = tempfile.gettempdir()
    return DataError(f"the rows cannot be kept until they are written: {error}; is there room in {where}?")

"""Row numbers of a table. A key takes one, gives it back, and another key takes it again.

A key takes the lowest free row, or else the next row at the end. So rows are in the order of the keys, as long as no
row is given back. A row that was given back is a hole until another key takes it. The end never moves back.

Code that keeps something for each row (weights, sums, encoded items) asks `changes` from time to time. The answer says
which rows were given, and which were given back, since the last call. Each caller keeps its own mark, so each can ask
when it wants. A row that is taken again must start from nothing: what was kept for it belongs to a key that is gone.

It does not know what a row holds, and it does not decide which key gives its row back.

Example:
    >>> rows = Rows(first=1, capacity=3)
    >>> [rows.take(key) for key in ("a", "b", "c", "d")]  # -1: there is no room
    [1, 2, 3, -1]
    >>> fresh, evicted, mark = rows.changes(None)
    >>> rows.release("b"), rows.take("d"), rows.release("c")
    (2, 2, 3)
    >>> rows.changes(mark)[:2]
    ([2], [2, 3])
    >>> list(rows), rows.snapshot()
    (['a', 'd'], ['a', 'd', None])
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from recdistill.errors import DataError


class Mark(NamedTuple):
    """A moment in the life of a table's rows; only `Rows.changes` reads it."""

    end: int
    clock: int


class Changes(NamedTuple):
    """What happened to rows since a mark.

    Args:
        fresh: Rows that hold a key now and were given since, ascending. What is kept for them must start from nothing.
        evicted: Rows that were given back since, ascending. A row that was taken again is in both lists.
        mark: A mark of now, for the next call.
    """

    fresh: list[int]
    evicted: list[int]
    mark: Mark


class Rows:
    """Rows by key.

    Args:
        first: Number of the first row.
        capacity: The most rows there can be; None for no limit.
    """

    def __init__(self, *, first: int = 0, capacity: int | None = None) -> None:
        self.first, self.capacity = first, capacity
        self.row_of: dict[str, int] = {}
        """Row by key. Not to be changed."""
        self._keys: list[str | None] = []  # by row, from `first` on; None where a row is free
        self._free: list[int] = []  # a heap
        # For each row that was ever given back: when it was last given back and when it was last given, by a clock that
        # counts such changes. The newest change is last. Other rows need no entry: they were given once, in order, up
        # to the end.
        self._moved: dict[int, tuple[int, int]] = {}
        self._clock = 0

    def __len__(self) -> int:
        """How many keys have a row."""
        return len(self.row_of)

    def __iter__(self) -> Iterator[str]:
        """Keys, in the order of their rows."""
        return (key for key in self._keys if key is not None)

    @property
    def end(self) -> int:
        """One more than the highest row that was ever given."""
        return self.first + len(self._keys)

    @property
    def room(self) -> bool:
        """Whether a new key would get a row."""
        return bool(self._free) or self.capacity is None or len(self._keys) < self.capacity

    def key(self, row: int) -> str | None:
        """Key of a row, None where it is free."""
        return self._keys[row - self.first]

    def take(self, key: str) -> int:
        """Row of a key. A new key takes one; it gets -1 when there is no room."""
        row = self.row_of.get(key)
        if row is not None:
            return row
        if self._free:
            row = heapq.heappop(self._free)
            self._keys[row - self.first] = key
            self._note(row, given=True)
        elif self.capacity is None or len(self._keys) < self.capacity:
            row = self.first + len(self._keys)
            self._keys.append(key)
        else:
            return -1
        self.row_of[key] = row
        return row

    def release(self, key: str) -> int:
        """Takes a key's row back.

        Returns:
            The row, which is free now.

        Raises:
            DataError: The key has no row.
        """
        row = self.row_of.pop(key, None)
        if row is None:
            raise DataError(f"{key!r} has no row of its own, so none can be given back")
        self._keys[row - self.first] = None
        heapq.heappush(self._free, row)
        self._note(row, given=False)
        return row

    def _note(self, row: int, *, given: bool) -> None:
        self._clock += 1
        back, _ = self._moved.pop(row, (0, 0))  # taken out first, so that it comes last when it is put back
        self._moved[row] = (back, self._clock) if given else (self._clock, 0)

    @property
    def mark(self) -> Mark:
        """A mark of now. `changes` of it tells what happens from now on."""
        return Mark(self.end, self._clock)

    def changes(self, since: Mark | None) -> Changes:
        """What happened since a mark. The time it takes grows with the number of changes.

        Args:
            since: The mark of the last answer. None for the first call, when the caller keeps nothing yet: then every
                row that has a key is fresh, and none is evicted.
        """
        if since is None:
            return Changes(sorted(self.row_of.values()), [], self.mark)
        if since == self.mark:
            return Changes([], [], since)
        beyond = range(since.end, self.end)
        fresh = [row for row in beyond if self._keys[row - self.first] is not None]
        evicted = []
        # From the newest change to older ones, until one that the mark already knew.
        for row, (back, given) in reversed(self._moved.items()):
            if max(back, given) <= since.clock:
                break
            if given > since.clock and row < since.end:  # a row at or beyond `since.end` is already in the list
                fresh.append(row)
            if back > since.clock:
                evicted.append(row)
        return Changes(sorted(fresh), sorted(evicted), self.mark)

    def snapshot(self) -> list[str | None]:
        """Keys in row order, None for each free row: all that a later `restore` needs."""
        return list(self._keys)

    def restore(self, keys: Sequence[str | None]) -> None:
        """Takes the state that `snapshot` saved. Do not use an older mark after this.

        Raises:
            DataError: There are too many keys, or a key comes twice.
        """
        if self.capacity is not None and len(keys) > self.capacity:
            raise DataError(f"{len(keys)} values do not fit its {self.first + self.capacity} rows")
        row_of = {key: row for row, key in enumerate(keys, self.first) if key is not None}
        self._free = [row for row, key in enumerate(keys, self.first) if key is None]  # ascending: a heap
        if len(row_of) + len(self._free) != len(keys):
            raise DataError("a value is there twice")
        self.row_of.clear()  # in place: others may hold it
        self.row_of.update(row_of)
        self._keys = list(keys)
        self._moved, self._clock = {}, 0

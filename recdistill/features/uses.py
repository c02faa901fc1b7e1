"""How often each row was used of late, how long ago, and which row is worth least.

The order of rows: first those whose key is away (a withdrawn item). Then those that were used less often, then those
whose last use is older, then the lower row. `halve` halves all counts, so old uses fade.

`least` does not look at all rows each time. It keeps the rows at the lower end in a heap, as many as a sixty-fourth of
the table, and makes the heap anew when it is used up. What it answers does not depend on when this was.

It follows a `Rows`: a row that was given anew starts with no use.

It knows nothing of what a key is, and it gives no row back.

Example:
    >>> rows = Rows(first=1)
    >>> taken = [rows.take(key) for key in "abc"]
    >>> uses = Uses(rows)
    >>> uses.note(np.array([1, 1, 3, 2]), now=7)
    >>> uses.least(), uses.use(1)
    (2, 2)
    >>> uses.set_away(1, away=True)
    >>> uses.least()
    1
"""

from __future__ import annotations

import heapq
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recdistill.errors import DataError
from recdistill.features.rows import Rows

_BLOCK: Final = 64  # the heap has at least so many rows, and a sixty-fourth of the table
_MOST: Final = 2**31 - 1

_Key = tuple[int, int]  # of a row: its worth, then its number


class Uses:
    """Counts by row.

    Args:
        rows: The rows.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows, self._mark = rows, rows.mark
        room = rows.end - rows.first
        self._held_R = np.array([key is not None for key in rows.snapshot()], bool)  # by row, from `first` on
        self._away_R = np.zeros(room, bool)
        self._use_R = np.zeros(room, np.uint32)
        self._last_R = np.zeros(room, np.uint32)
        self._heap: list[_Key] | None = None
        self._edge: _Key = (0, 0)  # every row up to this worth is in the heap

    def note(self, rows_N: npt.NDArray[np.integer[Any]], *, now: int) -> None:
        """Counts one use for each row named. A row may come several times, but must be held."""
        self.follow(now=now)
        places_N = rows_N.astype(np.int64) - self._rows.first
        np.add.at(self._use_R, places_N, np.uint32(1))
        self._last_R[places_N] = now

    def start(self, row: int, use: int, *, now: int) -> None:
        """Sets the count of a row that was given since the last call."""
        self.follow(now=now)
        place = row - self._rows.first
        self._use_R[place], self._last_R[place] = min(use, _MOST), now
        self._push(place)

    def set_away(self, row: int, *, away: bool) -> None:
        """Says whether the key of a row is away. The row was given before the last `follow`, `note` or `least`."""
        place = row - self._rows.first
        if self._away_R[place] != away:
            self._away_R[place] = away
            self._push(place)

    def away(self, row: int) -> bool:
        """Whether the key of a row is away."""
        return bool(self._away_R[row - self._rows.first])

    def use(self, row: int) -> int:
        """The count of a row."""
        return int(self._use_R[row - self._rows.first])

    def halve(self) -> None:
        """Halves every count, rounded down."""
        self._use_R >>= np.uint32(1)
        self._heap = None

    def least(self) -> int:
        """The row that is worth least, or -1 where no row is held."""
        while True:
            if not self._heap and not self._fill():
                return -1
            heap = self._heap or []
            while heap:
                worth, place = heap[0]
                now = self._worth(place)
                if worth == now and self._held_R[place]:
                    return place + self._rows.first
                heapq.heappop(heap)  # it was used since, or given back
                if self._held_R[place] and (now, place) <= self._edge:
                    heapq.heappush(heap, (now, place))

    def follow(self, *, now: int) -> None:
        """Takes over which rows were given and given back. A fresh row starts with no use, last used `now`."""
        if self._rows.mark == self._mark:
            return
        fresh, evicted, self._mark = self._rows.changes(self._mark)
        first = self._rows.first
        if (end := self._rows.end - first) > (room := len(self._held_R)):
            more = max(end, min(2 * room, self._rows.capacity or 2 * room)) - room
            for name in ("_held_R", "_away_R", "_use_R", "_last_R"):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))
        for rows, held in ((evicted, False), (fresh, True)):
            # One row at a time is faster one by one than as an array.
            places: Any = rows[0] - first if len(rows) == 1 else np.array(rows, np.int64) - first
            if rows:
                self._held_R[places], self._away_R[places] = held, False
                self._use_R[places], self._last_R[places] = 0, now
        if self._heap is not None:
            for row in fresh:
                self._push(row - first)

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.uint32]]:
        """`use` and `last` of every row up to the last that was ever given, for a checkpoint. Call `follow` first."""
        end = self._rows.end - self._rows.first
        return {"use": self._use_R[:end].copy(), "last": self._last_R[:end].copy()}

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in (self._held_R, self._away_R, self._use_R, self._last_R))

    def restore(self, use_R: npt.NDArray[np.uint32], last_R: npt.NDArray[np.uint32]) -> None:
        """Takes the arrays of a checkpoint; the rows are those of the same moment.

        Raises:
            DataError: They do not fit the rows.
        """
        for saved in (use_R, last_R):
            if saved.shape != self._use_R.shape or saved.dtype != np.uint32:
                raise DataError(f"the uses are {saved.dtype} {saved.shape}, not uint32 {self._use_R.shape}")
        self._use_R, self._last_R = use_R.copy(), last_R.copy()

    def _worth(self, place: int) -> int:
        use = min(int(self._use_R[place]), _MOST)
        return (0 if self._away_R[place] else 1 << 63) | use << 32 | int(self._last_R[place])

    def _push(self, place: int) -> None:
        if self._heap is not None and (key := (self._worth(place), place)) <= self._edge:
            heapq.heappush(self._heap, key)

    def _fill(self) -> bool:
        """Makes the heap anew: the rows that are worth least. False where no row is held."""
        held = np.flatnonzero(self._held_R)
        if not len(held):
            return False
        high = np.where(self._away_R[held], np.uint64(0), np.uint64(1) << np.uint64(63))
        use = np.minimum(self._use_R[held], np.uint32(_MOST)).astype(np.uint64) << np.uint64(32)
        worths = high | use | self._last_R[held].astype(np.uint64)
        count = min(len(held), max(_BLOCK, len(held) // 64))
        edge = np.partition(worths, count - 1)[count - 1]
        below = np.flatnonzero(worths < edge)
        level = np.flatnonzero(worths == edge)[: count - len(below)]  # of those at the edge, the lower rows
        chosen = np.concatenate([below, level])
        self._heap = list(zip(worths[chosen].tolist(), held[chosen].tolist(), strict=True))
        heapq.heapify(self._heap)
        self._edge = max(self._heap)
        return True

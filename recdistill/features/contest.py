"""Which values of one key get a row of their own: those that are used most.

A value without a row is counted in a `Sketch`. When it was seen often enough it gets a free row. Where none is free, it
takes the row that is worth least (`Uses`): at once when the key of that row is away, else only when the value was seen
at least twice, and a quarter more often than that row was used. So a value that was seen once takes nothing from
anybody, and two values of nearly equal use do not take a row from each other for ever. The one that lost its row goes
on from the count that it had. This way to admit is TinyLFU's (Einziger, Friedman and Manes, ACM ToS 2017).

It knows nothing of what a value is: the caller gives the rows, and takes them back.

Example:
    >>> rows = Rows(capacity=1)
    >>> row = rows.take("a")
    >>> contest = Contest(rows, min_seen=1, evict=True)
    >>> contest.uses.note(np.array([0, 0, 0, 0]), now=0)
    >>> [list(contest.winners({value: count}, now=0)) for value, count in [("b", 5), ("c", 6)]]
    [[], [('c', 'a')]]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from recdistill.features.hashes import hash_texts
from recdistill.features.rows import Rows
from recdistill.features.sketch import Sketch
from recdistill.features.uses import Uses


class Contest:
    """Counts the values of one key, with a row and without.

    Args:
        rows: Rows of the key.
        min_seen: How often a value must be seen before it gets a row.
        evict: Whether a value may take another's row.
    """

    def __init__(self, rows: Rows, *, min_seen: int, evict: bool) -> None:
        self.uses = Uses(rows)
        self.sketch: Sketch | None = None
        """Made when the first value waits."""
        self.evict = evict
        self._rows, self._min_seen = rows, min_seen
        self._lost: dict[str, int] = {}  # counts of those that lost their row, on their way into the sketch

    @property
    def open(self) -> bool:
        """Whether a value without a row can get one at all."""
        return self.evict or self._rows.room

    def winners(self, seen: Mapping[str, int], *, now: int) -> Iterator[tuple[str, str | None]]:
        """Counts values without a row, and says which of them get one: those seen most first, then in the order given.

        Args:
            seen: How often each was seen since the last call.
            now: Number of this moment, for the age of a use.

        Yields:
            A value, and the value that must give its row back first, or None. The caller does both before it goes on.
        """
        if not seen or not self.open:
            return
        self.uses.follow(now=now)
        values, hashes = list(seen), hash_texts(list(seen))
        estimates = self.made_sketch().add(hashes, np.fromiter(seen.values(), np.int64, len(values)))
        for place in np.argsort(-estimates, kind="stable").tolist():
            estimate = int(estimates[place])
            if estimate < self._min_seen:
                return
            loser = None
            if not self._rows.room:
                loser = self.loser(estimate)
                if loser is None:
                    return
            yield values[place], loser
            if (row := self._rows.row_of.get(values[place])) is not None:
                self.uses.start(row, estimate, now=now)

    def loser(self, estimate: int) -> str | None:
        """The value that gives its row to one that was seen so often; None where no row is worth less."""
        if not self.evict or (row := self.uses.least()) < 0:
            return None
        use = self.uses.use(row)
        if not self.uses.away(row) and (estimate < 2 or estimate <= use + use // 4):
            return None
        value = self._rows.key(row)
        if value is not None and use:
            self._lost[value] = max(use, self._lost.get(value, 0))
        return value

    @property
    def has_sketch(self) -> bool:
        """Whether a value without a row was ever counted."""
        return self.sketch is not None or bool(self._lost)

    def made_sketch(self) -> Sketch:
        """The sketch, with the counts of those that lost their row. It is made when it is first needed."""
        if self.sketch is None:
            self.sketch = Sketch(self._rows.capacity or 1)
        if self._lost:
            uses = np.fromiter(self._lost.values(), np.int64, len(self._lost))
            self.sketch.at_least(hash_texts(list(self._lost)), uses)
            self._lost = {}
        return self.sketch

    def halve(self) -> None:
        """Lets all counts fade."""
        self.uses.halve()
        if self.has_sketch:
            self.made_sketch().halve()

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.uses.nbytes + (0 if self.sketch is None else self.sketch.table.nbytes)

    def arrays(self, *, now: int) -> dict[str, npt.NDArray[np.uint32]]:
        """Its state, for a checkpoint."""
        self.uses.follow(now=now)
        return self.uses.arrays | ({"sketch": self.made_sketch().table.copy()} if self.has_sketch else {})

    def restore(self, arrays: Mapping[str, npt.NDArray[np.uint32]], *, sketch: bool) -> None:
        """Takes the state that `arrays` saved; the rows are those of the same moment. `sketch`: whether it has one.

        Raises:
            KeyError: An array is missing.
            DataError: An array does not fit.
        """
        self.uses.restore(arrays["use"], arrays["last"])
        if sketch:
            self.made_sketch().restore(arrays["sketch"])

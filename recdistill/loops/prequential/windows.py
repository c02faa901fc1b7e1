"""What was counted, by windows of time: the newest are open, the older ones are rows of a table.

A list belongs to the window in which it came. Its label comes later, so a window stays open for as long as labels may
come. Then its figures are kept as a row, and its groups are forgotten.

It knows nothing of records, models or logs.

Example:
    >>> windows = Windows()
    >>> first = windows.at(5_000_000, window_us=1_000_000)
    >>> first.lists += 1
    >>> first.ndcg.add("weights", 3, 0.5)
    >>> windows.close(before_us=6_000_000), [(row.begin_us, row.ndcg["weights"].mean) for row in windows.rows]
    (None, [(5000000, 0.5)])
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from recdistill.loops.prequential.figures import Figure, Sums, pooled

ROWS: Final = 168
"""So many rows are kept: a week of hours."""

TOLD: Final = 48
"""So many rows go along in a bundle."""


class Row(Struct, frozen=True, kw_only=True):
    """The figures of one window.

    Attributes:
        begin_us: Where it begins.
        end_us: Where it ends.
        lists: Lists that were scored.
        ndcg: NDCG@10 against labels, by line.
        agreement: Kendall's τ with the teacher, by line.
    """

    begin_us: int
    end_us: int
    lists: int
    ndcg: dict[str, Figure] = {}
    agreement: dict[str, Figure] = {}


class Window(Struct, kw_only=True):
    """A window that is open. The attributes are those of `Row`, with sums."""

    begin_us: int
    end_us: int
    lists: int = 0
    ndcg: Sums = msgspec.field(default_factory=Sums)
    agreement: Sums = msgspec.field(default_factory=Sums)

    def row(self) -> Row:
        """Its figures so far."""
        return Row(
            begin_us=self.begin_us,
            end_us=self.end_us,
            lists=self.lists,
            ndcg=self.ndcg.figures(),
            agreement=self.agreement.figures(),
        )


class Windows(Struct):
    """All windows of a student.

    Attributes:
        open: Oldest first.
        rows: Those that were closed, oldest first; windows without a list have none.
    """

    open: list[Window] = []
    rows: list[Row] = []

    def at(self, time_us: int, *, window_us: int) -> Window:
        """The window of a time, which is not before that of the last call."""
        begin_us = time_us // window_us * window_us
        if not self.open or self.open[-1].begin_us != begin_us:
            self.open.append(Window(begin_us=begin_us, end_us=begin_us + window_us))
        return self.open[-1]

    def of(self, begin_us: int) -> Window | None:
        """The open window that begins at a time."""
        return next((one for one in self.open if one.begin_us == begin_us), None)

    def close(self, *, before_us: int) -> None:
        """Closes the windows that ended before a time, or then."""
        while self.open and self.open[0].end_us <= before_us:
            row = self.open.pop(0).row()
            if row.lists:
                self.rows = [*self.rows[-(ROWS - 1) :], row]

    def now(self) -> Row | None:
        """All open windows as one; None while none is open."""
        if not self.open:
            return None
        return Row(
            begin_us=self.open[0].begin_us,
            end_us=self.open[-1].end_us,
            lists=sum(one.lists for one in self.open),
            ndcg=pooled(one.ndcg for one in self.open).figures(),
            agreement=pooled(one.agreement for one in self.open).figures(),
        )

    def told(self) -> dict[str, Any]:
        """As JSON says it: the newest rows, and all open windows as one."""
        rows = [*self.rows, *(one.row() for one in self.open if one.lists)]
        return {"rows": msgspec.to_builtins(rows[-TOLD:]), "now": msgspec.to_builtins(self.now())}

"""Inputs: do the lists that arrive still look as they did?

It follows which items are in the lists, and which came last in the histories; the newest action; how long lists and
histories are; each value of the context, of a vector its first number; and which share of a history the catalogue does
not know. One entry of each list is counted, because the entries of one list are no independent draws. All but the last
are compared in cells (`watch.cells`): items fall into 32 cells by their slot. A shift of taste moves the shares, and
one new item does not.

It knows nothing of teachers, labels or the student.

Example:
    >>> Inputs().figures()
    {}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from recdistill.watch.arrived import Arrived, Ints
from recdistill.watch.cells import BLOCK, Cells
from recdistill.watch.detectors.contract import ALPHA, Finding, since_first
from recdistill.watch.level import Level

CELLS = 32
"""Cells of ids, of values of the context, and of places."""

UNKNOWN = 0.1
"""The smallest change that matters in the share of events that the catalogue does not know."""


class Inputs(Struct):
    """Notices that other lists arrive."""

    notice: ClassVar[str] = "drift_inputs"
    cells: dict[str, Cells] = {}
    """By the name of the quantity."""
    unknown: Level = field(default_factory=Level)

    def observe(self, arrived: Arrived, *, block: int = BLOCK) -> Finding | None:
        """See `Drift`."""
        new_B = arrived.new
        at_B = arrived.at[new_B]
        whys: list[str] = []
        onsets: list[int] = []
        quantities = list(_quantities(arrived))
        alpha = ALPHA / len(quantities)
        for name, cells_B, usable_B in quantities:
            if name not in self.cells:  # in the order in which a checkpoint gives them back
                self.cells = dict(sorted([*self.cells.items(), (name, Cells())]))
            cells = self.cells[name]
            rows_B = usable_B[new_B]
            moved = cells.add(cells_B[new_B][rows_B], at_B[rows_B], alpha=alpha, block=block)
            if moved is not None:
                low, high = moved.reference
                whys.append(f"{name} (stability index {moved.index:.2f} against lists {low} to {high})")
                onsets.append(moved.since)
        requests = arrived.requests
        known_B = (requests.history_slots_BH >= 0).sum(1)
        share_B = requests.unknown_B / np.maximum(known_B + requests.unknown_B, 1)
        if (
            shifted := self.unknown.add(share_B[new_B].astype(np.float64), at_B, least=UNKNOWN, block=block)
        ) is not None:
            whys.append(f"events of unknown items ({shifted.usual:.2f} before, now {shifted.now:.2f})")
            onsets.append(shifted.since)
        return since_first(whys, onsets)

    def figures(self) -> dict[str, float]:
        """See `Drift`."""
        found = {name: cells.index for name, cells in sorted(self.cells.items()) if cells.asked or cells.index}
        return found | ({"unknown": self.unknown.now} if self.unknown.late else {})


def _quantities(arrived: Arrived) -> Iterator[tuple[str, Ints, npt.NDArray[np.bool_]]]:
    """Name, cell of each list, and whether the list has one."""
    slots_BL, where_BL, requests = arrived.lists.candidate_slots_BL, arrived.lists.where_BL, arrived.requests
    rows_B = np.arange(len(where_BL))
    all_B = np.ones(len(where_BL), bool)
    # Another place in each list: what stands first is another kind of item than what stands last.
    places_B = arrived.at % np.maximum(arrived.lengths, 1)
    yield "items", slots_BL[rows_B, places_B].astype(np.int64) % CELLS, where_BL[rows_B, places_B]
    yield "list lengths", _steps(arrived.lengths), all_B
    if requests.history_slots_BH.shape[1]:
        newest_B = requests.history_slots_BH[:, 0].astype(np.int64)
        has_B = newest_B >= 0
        yield "newest events", np.where(has_B, 1 + newest_B % CELLS, 0), all_B
        yield "actions", np.where(has_B, 1 + requests.history_actions_BH[:, 0].astype(np.int64), 0), all_B
        yield "history lengths", _steps((requests.history_slots_BH >= 0).sum(1)), all_B
    for name, values_BM in requests.context.items():
        if values_BM.shape[1]:
            yield f"context.{name}", _of_context(values_BM, number=name in arrived.numbers), all_B


def _steps(lengths_B: npt.NDArray[np.integer]) -> Ints:
    """Cells of lengths: each is 1.4 times as wide as the one before."""
    return np.asarray(np.floor(2 * np.log2(1.0 + lengths_B)), np.int64)


def _of_context(values_BM: npt.NDArray[np.generic], *, number: bool) -> Ints:
    """Cells of the first value: 0 where there is none; rows by their number, numbers in steps of .6 deviations.

    A number says itself whether there is one. A vector of zeros is as one that is not there.
    """
    first_B = values_BM[:, 0]
    if np.issubdtype(first_B.dtype, np.integer):
        rows_B = first_B.astype(np.int64)
        return np.where(rows_B >= 0, 1 + rows_B % CELLS, 0)
    steps_B = 1 + np.clip(np.floor((first_B.astype(np.float64) + 5.0) / 0.625), 0, 15).astype(np.int64)
    there_B = values_BM[:, 1] != 0 if number else (values_BM != 0).any(1)
    return np.where(there_B, steps_B, 0)

"""The rows of changed and new items. They are kept apart from the rows of the bundle.

An `Overlay` is one state and never changes. `put` makes the next state. Its cost depends on the new rows, not on the
old ones: all states share one array that has free rows at its end. New rows are written after the last row that any
state reads. When the array is full, its size doubles. Rows and records are copied only when a row changes that a state
already shows.

It does not know bundles, requests or how a row is made.

Example:
    >>> first = Overlay.empty(3).put([Item("a")], np.ones((1, 3), np.float32))
    >>> second = first.put([Item("a", version=2), Item("b")], np.zeros((2, 3), np.float32))
    >>> first.rows_MW.tolist(), second.rows_MW.tolist(), second.ids
    ([[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], ['a', 'b'])
    >>> first.place("b"), second.place("b")
    (-1, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recdistill.records import Item

BLOCK: Final = 1024  # smallest number of rows in the shared array

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Room:
    """What the states share: an array of R rows. The newest state uses the first `len(ids)` of them.

    The id of a place never changes, so `ids` and `place_of` only grow. A state reads only its own places.
    """

    rows_RW: Floats
    items: list[Item]
    ids: list[str]
    place_of: dict[str, int]


class Overlay:
    """M items, each with its record and its row. `empty` and `put` make one."""

    __slots__ = ("_room", "place_of", "rows_MW")

    def __init__(self, room: _Room, count: int) -> None:
        self._room = room
        self.rows_MW = room.rows_RW[:count]
        self.place_of = room.place_of
        """Places by id. A place that is `len(self)` or more belongs to a later state."""

    @classmethod
    def empty(cls, width: int) -> Overlay:
        """An overlay without items. W = `width`."""
        return cls(_Room(np.zeros((0, width), np.float32), [], [], {}), 0)

    def __len__(self) -> int:
        return len(self.rows_MW)

    @property
    def ids(self) -> list[str]:
        """A copy of the ids, by place."""
        return self._room.ids[: len(self)]

    def id(self, place: int) -> str:
        """The id of one place."""
        return self._room.ids[place]

    @property
    def items(self) -> Sequence[Item]:
        """A copy of the records, by place."""
        return self._room.items[: len(self)]

    def place(self, item: str) -> int:
        """The place of an item; −1 when it has none."""
        place = self.place_of.get(item, -1)
        return place if place < len(self) else -1

    def put(self, items: Sequence[Item], rows_FW: Floats) -> Overlay:
        """The next state. A known item keeps its place; a new item gets a new place at the end.

        Args:
            items: F records of different items.
            rows_FW: The row of each.
        """
        count = len(self)
        places = [self.place(item.id) for item in items]
        new = sum(place < 0 for place in places)
        room = self._room_for(count + new, changes=new < len(items))
        for at, (item, place) in enumerate(zip(items, places, strict=True)):
            if place < 0:
                places[at] = room.place_of[item.id] = len(room.ids)
                room.items.append(item)
                room.ids.append(item.id)
            else:
                room.items[place] = item
        room.rows_RW[places] = rows_FW
        return Overlay(room, len(room.ids))

    def _room_for(self, count: int, *, changes: bool) -> _Room:
        """An array with room for `count` rows, in which this state's `put` may write.

        Args:
            count: Rows.
            changes: Whether a row is written that this state already shows.
        """
        room = self._room
        if len(room.ids) != len(self):  # another state was made from this one, and it has added places of its own
            room = _Room(room.rows_RW, room.items, self.ids, {item: place for place, item in enumerate(self.ids)})
            changes = True
        full = count > len(room.rows_RW)
        if not changes and not full:
            return room
        # A copy: other states still read the old rows, or there are too few free rows. A larger array has twice the
        # rows that are needed now.
        rows_RW = np.empty((max(BLOCK, 2 * count) if full else len(room.rows_RW), room.rows_RW.shape[1]), np.float32)
        rows_RW[: len(self)] = self.rows_MW
        return _Room(rows_RW, room.items[: len(self)] if changes else room.items, room.ids, room.place_of)

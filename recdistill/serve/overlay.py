"""The rows of changed and new items. They are kept apart from the rows of the bundle.

An `Overlay` is one state and never changes. `put` makes the next state. Its time depends on the new rows only, and not
on how many rows there are already. All states share one array with free rows at its end, and a new row always goes
after the last one, even if its item has a row already. So a row that a state uses is never written again. When the
array is full, its size doubles. Old rows that a newer one has replaced stay in the array. When they are more than half
of all rows, `compact` leaves them out.

It does not know bundles, requests or how a row is made.

Example:
    >>> first = Overlay.empty(3).put([Item("a")], np.ones((1, 3), np.float32))
    >>> second = first.put([Item("a", version=2), Item("b")], np.zeros((2, 3), np.float32))
    >>> second.ids, first.place("a"), second.place("a"), first.place("b"), second.place("b")
    (['a', 'a', 'b'], 0, 1, -1, 2)
    >>> less, kept = second.compact()
    >>> less.ids, kept.tolist(), less.place("a")
    (['a', 'b'], [1, 2], 0)
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

    Lists only grow, and a place never changes. A state reads only its own places. `before` holds, for each place, the
    earlier place of the same item; −1: there is none.
    """

    rows_RW: Floats
    items: list[Item]
    ids: list[str]
    before: list[int]
    place_of: dict[str, int]


class Overlay:
    """M places, each with a record and its row. `empty` and `put` make one. Only the last place of an item is valid.

    A place that is `len(self)` or more belongs to a later state.
    """

    __slots__ = ("_room", "before", "place_of", "rows_MW")

    def __init__(self, room: _Room, count: int) -> None:
        self._room = room
        self.rows_MW = room.rows_RW[:count]
        self.place_of = room.place_of
        """The newest place of each id, perhaps of a later state."""
        self.before = room.before
        """For each place, the earlier place of the same item."""

    @classmethod
    def empty(cls, width: int) -> Overlay:
        """An overlay without items. W = `width`."""
        return cls(_Room(rows_RW=np.zeros((0, width), np.float32), items=[], ids=[], before=[], place_of={}), 0)

    def __len__(self) -> int:
        return len(self.rows_MW)

    @property
    def ids(self) -> list[str]:
        """A copy of the ids, by place. An item that changed several times has several places."""
        return self._room.ids[: len(self)]

    def id(self, place: int) -> str:
        """The id of one place."""
        return self._room.ids[place]

    @property
    def items(self) -> Sequence[Item]:
        """A copy of the records, by place."""
        return self._room.items[: len(self)]

    @property
    def shared(self) -> Sequence[Item]:
        """The records by place, of this state and of later ones. Only the first `len(self)` are of this state.

        It is one list for all states until `compact`, and only grows. So who has read a part of it need not read that
        again for the next state.
        """
        return self._room.items

    @property
    def crowded(self) -> bool:
        """Whether so many places are out of date that `compact` is worth its time."""
        return len(self) > BLOCK + 2 * len(self.place_of)

    def place(self, item: str) -> int:
        """The place of an item; −1 when it has none."""
        place = self.place_of.get(item, -1)
        while place >= len(self):
            place = self.before[place]
        return place

    def put(self, items: Sequence[Item], rows_FW: Floats) -> Overlay:
        """The next state. Each item gets a new place at the end.

        Args:
            items: F records of different items.
            rows_FW: The row of each.
        """
        count = len(self)
        room = self._room_for(count + len(items))
        room.rows_RW[count : count + len(items)] = rows_FW
        for item in items:
            room.before.append(room.place_of.get(item.id, -1))
            room.place_of[item.id] = len(room.ids)
            room.items.append(item)
            room.ids.append(item.id)
        return Overlay(room, count + len(items))

    def compact(self) -> tuple[Overlay, npt.NDArray[np.int64]]:
        """The same items without replaced places, and which places were kept, in their order."""
        newest = {item: place for place, item in enumerate(self.ids)}
        kept = np.sort(np.fromiter(newest.values(), np.int64, len(newest)))
        return Overlay(self._copy(kept), len(kept)), kept

    def _copy(self, places: npt.NDArray[np.int64], least: int = 0) -> _Room:
        """A new room with some of the places, and with rows for at least `least` places."""
        rows_RW = np.empty((max(BLOCK, 2 * len(places), least), self.rows_MW.shape[1]), np.float32)
        rows_RW[: len(places)] = self.rows_MW[places]
        room = _Room(rows_RW=rows_RW, items=[], ids=[], before=[], place_of={})
        for place in places.tolist():
            room.before.append(room.place_of.get(self.id(place), -1))
            room.place_of[self.id(place)] = len(room.ids)
            room.items.append(self._room.items[place])
            room.ids.append(self.id(place))
        return room

    def _room_for(self, count: int) -> _Room:
        """An array with room for `count` rows. This state's `put` may write after its own rows there."""
        room = self._room
        if len(room.ids) != len(self):  # another state was made from this one, and it has added places
            return self._copy(np.arange(len(self)), 2 * count)
        if count <= len(room.rows_RW):
            return room
        rows_RW = np.empty((max(BLOCK, 2 * count), room.rows_RW.shape[1]), np.float32)
        rows_RW[: len(self)] = self.rows_MW
        return _Room(rows_RW=rows_RW, items=room.items, ids=room.ids, before=room.before, place_of=room.place_of)

"""One state of the catalogue: the bundle's items, the overlay with their changes, and the last record that is in it.

A request reads one `State`, and a state never changes. So any number of threads may read one while the next is made.

It does not know requests, filters or towers.

Example:
    >>> base = Base(np.zeros((2, 3), np.float32))
    >>> state = State.first(["a", "b"], base, popular=["b"], position=4)
    >>> state.slots(["b", "z"]).tolist(), state.names(state.popular), state.live
    ([1], ['b'], 2)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recdistill.serve.index import Base, Mask, Shelf, Slots
from recdistill.serve.overlay import Overlay


class _Layered(Mapping[str, int]):
    """The slot of each id. If an id is in the overlay and in the base, it has the slot of the overlay."""

    def __init__(self, base: Mapping[str, int], overlay: Overlay) -> None:
        self._base, self._overlay, self._first = base, overlay, len(base)
        self._place, self._before, self._count = overlay.place_of.get, overlay.before, len(overlay)

    def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
        place = self._place(key)
        # This runs for each event of a history. A call of `Overlay.place` would take longer than the same code here.
        if place is None:
            return self._base.get(key, default)
        while place >= self._count:
            place = self._before[place]
        return self._base.get(key, default) if place < 0 else self._first + place

    def __getitem__(self, key: str) -> int:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._base, *self._overlay.ids]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class State:
    """The part of the catalogue that a request reads. Slots 0 … N−1 are the bundle's, N … N+M−1 the overlay's.

    Args:
        base_ids: Ids of the bundle's slots.
        base_slot_of: Slots of the bundle by id.
        shelf: Rows, and which of them an answer may hold.
        overlay: Changed and new items.
        slot_of: The valid slot of an id.
        popular: Slots of popular items, most popular first.
        position: Next offset of `items` that this state has not seen.
    """

    base_ids: list[str]
    base_slot_of: dict[str, int]
    shelf: Shelf
    overlay: Overlay
    slot_of: Mapping[str, int]
    popular: Slots
    position: int

    @classmethod
    def first(cls, ids: list[str], base: Base, *, popular: Sequence[str], position: int) -> State:
        """The state of a bundle as it was exported."""
        overlay = Overlay.empty(base.vectors_NW.shape[1])
        slot_of = {item: slot for slot, item in enumerate(ids)}
        shelf = Shelf(base, overlay.rows_MW, np.ones(len(ids), bool))
        slots = np.array([slot_of[item] for item in popular], np.int64)
        return cls(
            base_ids=ids,
            base_slot_of=slot_of,
            shelf=shelf,
            overlay=overlay,
            slot_of=slot_of,
            popular=slots,
            position=position,
        )

    def after(self, overlay: Overlay, live_T: Mask, position: int) -> State:
        """The state with a new overlay and new flags. `put` of this state's overlay has made the new one."""
        shelf = Shelf(self.shelf.base, overlay.rows_MW, live_T)
        if overlay is self.overlay:
            return replace(self, shelf=shelf, position=position)
        slot_of = _Layered(self.base_slot_of, overlay)
        popular = np.array([slot_of[item] for item in self.names(self.popular)], np.int64)
        return replace(self, shelf=shelf, overlay=overlay, slot_of=slot_of, popular=popular, position=position)

    @property
    def ids(self) -> list[str]:
        """Ids by slot. A changed item has several slots, and at most one is live."""
        return self.base_ids + self.overlay.ids

    @property
    def live(self) -> int:
        """How many items an answer may hold."""
        return int(np.count_nonzero(self.shelf.live_T))

    def slots(self, items: Iterable[str]) -> Slots:
        """Slots of the items. Items without a slot are left out."""
        find = self.slot_of.get
        return np.array([slot for item in items if (slot := find(item)) is not None], np.int64)

    def names(self, slots: Slots) -> list[str]:
        """Ids of some slots."""
        base, count, beside = self.base_ids, len(self.base_ids), self.overlay.id
        return [base[slot] if slot < count else beside(slot - count) for slot in slots.tolist()]

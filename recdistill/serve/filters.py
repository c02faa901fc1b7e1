"""Decides which items an answer may hold: `Filters` and a state of the catalogue -> one flag for each slot.

For each attribute there are postings: value -> slots of the bundle. They are made when a filter first uses the
attribute. Items of the overlay change, so each of them is checked one by one.

It does not know users or scores.

Example:
    >>> from recdistill.serve.index import Base
    >>> items = [Item("a", attributes={"genre": ["war", "drama"]}), Item("b", attributes={"genre": "love"})]
    >>> state = State.first(["a", "b"], Base(np.zeros((2, 3), np.float32)), popular=[], position=0)
    >>> Sieve(items).allowed(state, Filters(where={"genre": "war"})).tolist()
    [True, False]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.records import Item, Value
from recdistill.serve.index import Mask, Slots
from recdistill.serve.requests import Filters
from recdistill.serve.state import State

_NONE = np.zeros(0, np.int64)


class Sieve:
    """Finds the slots that filters allow. Threads may share it.

    Args:
        items: The items of the bundle, in slot order.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._postings: dict[str, dict[tuple[type, Value], Slots]] = {}

    def allowed(self, state: State, filters: Filters | None, exclude: Sequence[str] = ()) -> Mask:
        """Which slots an answer may hold, `[T]`. Do not change the array: it may be the state's own flags."""
        allowed_T = state.shelf.live_T
        if filters is not None and filters.allow is not None:
            chosen_T = np.zeros(len(allowed_T), bool)
            chosen_T[state.slots(filters.allow)] = True
            allowed_T = allowed_T & chosen_T
        for field, wanted in filters.where.items() if filters is not None else ():
            allowed_T = allowed_T & self._having(state, field, wanted)
        out = state.slots(exclude if filters is None else [*exclude, *filters.exclude])
        if len(out):
            allowed_T = allowed_T.copy()
            allowed_T[out] = False
        return allowed_T

    def _having(self, state: State, field: str, wanted: Value) -> Mask:
        """Which slots have the attribute with one of the wanted values, `[T]`."""
        if field not in self._postings:
            self._postings[field] = self._posted(field)
        keys = _keys(wanted)
        having_T = np.zeros(len(state.shelf.live_T), bool)
        for key in keys:
            having_T[self._postings[field].get(key, _NONE)] = True
        for slot, item in enumerate(state.overlay.items, len(self._items)):
            having_T[slot] = not keys.isdisjoint(_keys(item.attributes.get(field)))
        return having_T

    def _posted(self, field: str) -> dict[tuple[type, Value], Slots]:
        found: dict[tuple[type, Value], list[int]] = {}
        for slot, item in enumerate(self._items):
            for key in _keys(item.attributes.get(field)):
                found.setdefault(key, []).append(slot)
        return {key: np.array(slots, np.int64) for key, slots in found.items()}


def _keys(value: Value | None) -> set[tuple[type, Value]]:
    """The values of an attribute with their types, so that `true` and 1 differ."""
    members = value if isinstance(value, list) else () if value is None else (value,)
    return {(float, float(v)) if type(v) is int else (type(v), v) for v in members}

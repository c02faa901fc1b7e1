"""Decides which items an answer may hold: `Filters` and a state of the catalogue -> one flag for each slot.

A filter may only name attributes that some item has. For another name, the error gives the known name that is most like
it. Each attribute has postings: value -> slots. They are made when a filter first uses the attribute, once for the
bundle and again for each new overlay. All postings together have a limit in bytes. When it is passed, those that were
not used for the longest time are dropped first.

It does not know users or scores.

Example:
    >>> from recdistill.serve.index import Base
    >>> items = [Item("a", attributes={"genre": ["war", "drama"]}), Item("b", attributes={"genre": "love"})]
    >>> state = State.first(["a", "b"], Base(np.zeros((2, 3), np.float32)), popular=[], position=0)
    >>> Sieve(items).allowed(state, Filters(where={"genre": "war"})).tolist()
    [True, False]
    >>> Sieve(items).check(state, Filters(where={"gerne": "war"}))
    Traceback (most recent call last):
    recdistill.errors.RequestError: where.gerne: no item has this attribute; did you mean 'genre'?
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from recdistill.errors import RequestError
from recdistill.records import Item, Value
from recdistill.serve.index import Mask, Slots
from recdistill.serve.overlay import Overlay
from recdistill.serve.requests import Filters
from recdistill.serve.state import State
from recdistill.text import cut, did_you_mean, printable

MOST_BYTES: Final = 256 << 20  # of all postings
_KEY_BYTES: Final = 160  # about so many bytes one value takes in a dict, without its text
_COMPARED: Final = 200  # attributes that a wrong one is compared with; each takes some 20 µs
_NAMED: Final = 10  # attributes that a refusal names when none is like the wrong one
_NONE = np.zeros(0, np.int64)

_Key = tuple[type, Value]


class _Postings:
    """Value -> places, for one attribute of some items. The places of all values are in one array."""

    def __init__(self, items: Iterable[Item], field: str) -> None:
        codes: dict[_Key, int] = {}
        rows: list[int] = []
        places: list[int] = []
        for place, item in enumerate(items):
            for key in _keys(item.attributes.get(field)):
                rows.append(codes.setdefault(key, len(codes)))
                places.append(place)
        row_of = np.array(rows, np.int64)
        self._places = np.array(places, np.int32)[np.argsort(row_of, kind="stable")]
        self._ends = np.cumsum(np.bincount(row_of, minlength=len(codes)))
        self._codes = codes
        self.bytes = self._places.nbytes + self._ends.nbytes + _KEY_BYTES * len(codes)

    def of(self, key: _Key) -> Slots:
        """The places of one value."""
        code = self._codes.get(key)
        if code is None:
            return _NONE
        found: Slots = self._places[self._ends[code - 1] if code else 0 : self._ends[code]].astype(np.int64)
        return found


class _Kept(NamedTuple):
    """Postings, and the overlay that they were made for. None: they were made for the bundle."""

    overlay: Overlay | None
    postings: _Postings


class Sieve:
    """Finds the slots that filters allow. Threads may share it.

    Args:
        items: The items of the bundle, in slot order.
        most_bytes: How many bytes of postings are kept at most.
    """

    def __init__(self, items: Sequence[Item], *, most_bytes: int = MOST_BYTES) -> None:
        self._items, self._most = items, most_bytes
        self._known = frozenset(name for item in items for name in item.attributes)
        self._beside: tuple[Overlay | None, frozenset[str]] = (None, frozenset())
        self._kept: OrderedDict[tuple[bool, str], _Kept] = OrderedDict()  # key: (for an overlay?, attribute)
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """About how many bytes the postings take."""
        return sum(kept.postings.bytes for kept in list(self._kept.values()))

    def check(self, state: State, filters: Filters | None) -> None:
        """Checks that items have the attributes that a filter names.

        Raises:
            RequestError: No item has one of them. The error names it and the known name that is most like it.
        """
        for field in filters.where if filters is not None else ():
            if field in self._known or field in self._names_beside(state.overlay):
                continue
            known = sorted(self._known | self._names_beside(state.overlay))
            some = f"there are {', '.join(known[:_NAMED])}{', …' if len(known) > _NAMED else ''}"
            like = known if len(known) <= _COMPARED else [name for name in known if abs(len(name) - len(field)) <= 2]
            hint = did_you_mean(field, like[:_COMPARED], otherwise=some if known else "items have no attributes")
            raise RequestError(f"where.{cut(printable(field), 100)}", f"no item has this attribute; {hint}")

    def ready(self, state: State, filters: Filters | None) -> bool:
        """Whether the postings that a filter needs are made already. Then the filter takes little time."""
        for field in filters.where if filters is not None else ():
            if (False, field) not in self._kept:
                return False
            if len(state.overlay):
                kept = self._kept.get((True, field))
                if kept is None or kept.overlay is not state.overlay:
                    return False
        return True

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
        base = self._postings(field, None)
        beside = self._postings(field, state.overlay) if len(state.overlay) else None
        having_T = np.zeros(len(state.shelf.live_T), bool)
        for key in _keys(wanted):
            having_T[base.of(key)] = True
            if beside is not None:
                having_T[len(self._items) + beside.of(key)] = True
        return having_T

    def _postings(self, field: str, overlay: Overlay | None) -> _Postings:
        """The postings of an attribute, of the bundle's items or of an overlay's."""
        name = (overlay is not None, field)
        kept = self._kept.get(name)
        if kept is not None and kept.overlay is overlay:
            with contextlib.suppress(KeyError):  # another thread dropped it; not locked: postings are made in the lock
                self._kept.move_to_end(name)
            return kept.postings
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or kept.overlay is not overlay:
                kept = _Kept(overlay, _Postings(self._items if overlay is None else overlay.items, field))
                self._kept[name] = kept
            self._kept.move_to_end(name)
            held = self.bytes
            while held > self._most and len(self._kept) > 1:
                held -= self._kept.popitem(last=False)[1].postings.bytes
        return kept.postings

    def _names_beside(self, overlay: Overlay) -> frozenset[str]:
        """Attributes of an overlay's items."""
        seen, names = self._beside
        if seen is not overlay:
            names = frozenset(name for item in overlay.items for name in item.attributes)
            self._beside = (overlay, names)
        return names


def _keys(value: Value | None) -> set[_Key]:
    """The values of an attribute with their types, so that `true` and 1 differ."""
    members = value if isinstance(value, list) else () if value is None else (value,)
    return {(float, float(v)) if type(v) is int else (type(v), v) for v in members}

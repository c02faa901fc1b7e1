"""Decides which items an answer may hold: `Filters` and a state of the catalogue -> one flag for each slot.

A filter may only name attributes that some item has. For another name, the error gives the known name that is most like
it. Each attribute has postings: value -> slots. They are made when a filter first uses the attribute, once for the
bundle and once for the overlay; what the overlay gets later is added to them. All postings together have a limit in
bytes. When it is passed, those that were not used for the longest time are dropped first.

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
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

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
_SOON: Final = 2_000  # so many places are added to postings in a few milliseconds
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


class _Growing:
    """Value -> places, for one attribute of an overlay's items. Only who holds the lock of the sieve may use it.

    Args:
        shared: The records of the overlay and of its later states.
        field: The attribute.
    """

    def __init__(self, shared: Sequence[Item], field: str) -> None:
        self.shared, self._field, self.taken = shared, field, 0
        self._places: dict[_Key, array[int]] = {}
        self.bytes = 0

    def take(self, count: int) -> None:
        """Takes the records up to a place."""
        for place in range(self.taken, count):
            for key in _keys(self.shared[place].attributes.get(self._field)):
                places = self._places.get(key)
                if places is None:
                    places = self._places[key] = array("i")
                    self.bytes += _KEY_BYTES
                places.append(place)
                self.bytes += places.itemsize
        self.taken = max(self.taken, count)

    def of(self, key: _Key, count: int) -> Slots:
        """The places of one value, of the first `count`."""
        places = self._places.get(key)
        if places is None:
            return _NONE
        found = np.array(places, np.int64)
        return found[: np.searchsorted(found, count)]


class _Names:
    """The attributes of an overlay's items, each with the first place that has it."""

    def __init__(self, shared: Sequence[Item]) -> None:
        self.shared, self._taken = shared, 0
        self._first: dict[str, int] = {}

    def upto(self, count: int) -> frozenset[str]:
        """The attributes of the first `count` items."""
        for place in range(self._taken, count):
            for name in self.shared[place].attributes:
                self._first.setdefault(name, place)
        self._taken = max(self._taken, count)
        return frozenset(name for name, place in self._first.items() if place < count)


_Made = TypeVar("_Made", _Postings, _Growing)


class Sieve:
    """Finds the slots that filters allow. Threads may share it.

    Args:
        items: The items of the bundle, in slot order.
        most_bytes: How many bytes of postings are kept at most.
    """

    def __init__(self, items: Sequence[Item], *, most_bytes: int = MOST_BYTES) -> None:
        self._items, self._most = items, most_bytes
        self._kinds = _kinds(items)
        self._known = frozenset(self._kinds)
        self._names = _Names(())
        self._kept: OrderedDict[tuple[bool, str], _Postings | _Growing] = OrderedDict()  # key: (of an overlay?, field)
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """About how many bytes the postings take."""
        return sum(kept.bytes for kept in list(self._kept.values()))

    def check(self, state: State, filters: Filters | None) -> None:
        """Checks that items have the attributes that a filter names, with values of its type.

        Raises:
            RequestError: No item has one of them. The error names it and the known name that is most like it.
        """
        for field, wanted in filters.where.items() if filters is not None else ():
            if field in self._known and self._fits(field, wanted):
                continue
            if field in (beside := self._names_beside(state.overlay)):
                continue
            if field in self._known:
                raise RequestError(f"where.{cut(printable(field), 100)}", self._of_what_kind(field, wanted))
            known = sorted(self._known | beside)
            some = f"there are {', '.join(known[:_NAMED])}{', …' if len(known) > _NAMED else ''}"
            like = known if len(known) <= _COMPARED else [name for name in known if abs(len(name) - len(field)) <= 2]
            hint = did_you_mean(field, like[:_COMPARED], otherwise=some if known else "items have no attributes")
            raise RequestError(f"where.{cut(printable(field), 100)}", f"no item has this attribute; {hint}")

    def _fits(self, field: str, wanted: Value) -> bool:
        """Whether an item of the bundle can have one of the values: none has a text where all have numbers."""
        asked = {kind for kind, _ in _keys(wanted)}
        return not asked or not asked.isdisjoint(self._kinds[field])

    def _of_what_kind(self, field: str, wanted: Value) -> str:
        kinds = self._kinds[field]
        are = " or ".join(sorted(_CALLED.get(kind, "other values") for kind in kinds))
        quotes = "with" if str in kinds else "without" if any(kind is str for kind, _ in _keys(wanted)) else ""
        return f"items have {are} there{f': write it {quotes} quotes' if quotes else ''}"

    def ready(self, state: State, filters: Filters | None) -> bool:
        """Whether the postings that a filter needs are made already. Then the filter takes little time."""
        for field in filters.where if filters is not None else ():
            if (False, field) not in self._kept:
                return False
            if count := len(state.overlay):
                kept = self._kept.get((True, field))
                if not isinstance(kept, _Growing) or kept.shared is not state.overlay.shared:
                    return False
                if count - kept.taken > _SOON:
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
        keys = _keys(wanted)
        having_T = np.zeros(len(state.shelf.live_T), bool)
        base = self._of_bundle(field)
        for key in keys:
            having_T[base.of(key)] = True
        if len(state.overlay):
            for places in self._beside(field, state.overlay, keys):
                having_T[len(self._items) + places] = True
        return having_T

    def _of_bundle(self, field: str) -> _Postings:
        """The postings of an attribute of the bundle's items."""
        kept = self._kept.get((False, field))
        if not isinstance(kept, _Postings):
            with self._lock:
                kept = self._kept.get((False, field))
                if not isinstance(kept, _Postings):
                    kept = self._keep((False, field), _Postings(self._items, field))
        with contextlib.suppress(KeyError):  # another thread dropped it; not locked: postings are made in the lock
            self._kept.move_to_end((False, field))
        return kept

    def _beside(self, field: str, overlay: Overlay, keys: Iterable[_Key]) -> list[Slots]:
        """The places of some values of an attribute in an overlay."""
        with self._lock:
            kept = self._kept.get((True, field))
            if not isinstance(kept, _Growing) or kept.shared is not overlay.shared:
                kept = _Growing(overlay.shared, field)
            kept.take(len(overlay))
            self._keep((True, field), kept)
            return [kept.of(key, len(overlay)) for key in keys]

    def _keep(self, name: tuple[bool, str], made: _Made) -> _Made:
        """Keeps postings, and drops others where all are too large together. The caller holds the lock."""
        self._kept[name] = made
        self._kept.move_to_end(name)
        held = self.bytes
        while held > self._most and len(self._kept) > 1:
            held -= self._kept.popitem(last=False)[1].bytes
        return made

    def _names_beside(self, overlay: Overlay) -> frozenset[str]:
        """Attributes of an overlay's items."""
        with self._lock:
            if self._names.shared is not overlay.shared:
                self._names = _Names(overlay.shared)
            return self._names.upto(len(overlay))


_CALLED: Final = {str: "texts", float: "numbers", bool: "true or false"}


def _kinds(items: Sequence[Item]) -> dict[str, set[type]]:
    """The types of each attribute's values, or of the members of its lists. Whole numbers are numbers."""
    found: dict[str, set[type]] = {}
    for item in items:
        for name, value in item.attributes.items():
            kind: type = type(value)
            if kind is list:
                kind = type(value[0]) if value else str  # type: ignore[index]  # it is a list
            kinds = found.get(name)
            if kinds is None:
                kinds = found[name] = set()
            kinds.add(kind)
    return {name: {float if kind is int else kind for kind in kinds} for name, kinds in found.items()}


def _keys(value: Value | None) -> set[_Key]:
    """The values of an attribute with their types, so that `true` and 1 differ."""
    members = value if isinstance(value, list) else () if value is None else (value,)
    return {(float, float(v)) if type(v) is int else (type(v), v) for v in members}

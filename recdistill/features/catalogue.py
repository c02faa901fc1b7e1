"""The items as of one position of the log, with their rows. Training, export and serving read them here.

An item gets a slot when it is first seen. The slot is the lowest free one, or else the next one at the end (`rows.py`).
The item keeps it until `release` takes it back, also when the item is withdrawn. Where an item has two records,
`records.newer` decides which one holds.

An item's rows are computed **when it is applied**, with the vocabulary of that moment. The trainer applies every item
with `admit=True`. Then a later vocabulary gives the same rows: an admitted value keeps its row, and a value that found
the vocabulary full does not get a row later. An item applied with `admit=False` keeps its hashed rows until it is
applied again, even if another item admits the value in between. A snapshot holds the rows themselves. So a resumed run
continues with the same bytes in both cases.

When the vocabulary takes a row back, the items with that row get new rows before anybody reads them. So no item points
at a row of another value. A value that found the vocabulary full keeps its hashed row in its items. This stays so until
they are applied again, even if there is room earlier.

It knows nothing of positions: the caller that applies items keeps them.

Example:
    >>> from recdistill.features.spec import FeatureSpec
    >>> spec = FeatureSpec()
    >>> catalogue = Catalogue(spec, Vocabulary(spec))
    >>> catalogue.apply(Item("a", version=2), admit=True), catalogue.apply(Item("a", version=1), admit=True)
    (0, 0)
    >>> catalogue.item(0).version, catalogue.slots(["z", "a"]).tolist()
    (2, [-1, 0])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import DataError
from recdistill.features.hashes import Buffer, Integers
from recdistill.features.lookup import Lookup
from recdistill.features.rows import Changes, Mark, Rows
from recdistill.features.spec import FeatureError, FeatureSpec
from recdistill.features.values import empty_column, problem_of, write_value
from recdistill.features.vocabulary import UNKNOWN, Vocabulary
from recdistill.features.written import Written, framed
from recdistill.records import Item, decode, encode, newer

_FIRST_ROOM: Final = 64  # slots; doubled whenever they are full


@dataclass(frozen=True)
class EncodedItems:
    """Rows of N items: `id_rows_N` int32, and one array [N, width] a field by its plain name (see `values`)."""

    id_rows_N: npt.NDArray[np.int32]
    fields: dict[str, npt.NDArray[Any]]


class Catalogue:
    """Items by slot.

    Args:
        spec: Which attributes count.
        vocabulary: Where their rows come from; `apply(..., admit=True)` adds to it.
    """

    def __init__(self, spec: FeatureSpec, vocabulary: Vocabulary) -> None:
        self.spec = spec
        self.vocabulary = vocabulary
        self._slots = Rows()
        self.slot_of = self._slots.row_of
        """Slot by item id. Not to be changed."""
        self._lookup = Lookup(self._slots)
        self._ids: list[str] = []
        self._items: list[Item | None] = []
        # The wire form of each record, with its length before it. The trainer needs it for each checkpoint, so it is
        # made when an item is applied there; else when it is first asked for.
        self._written = Written()
        self._live = np.zeros(_FIRST_ROOM, dtype=bool)
        self._shown: npt.NDArray[np.bool_] | None = None  # what `live_N` gave; None: it has changed since
        self._id_rows = np.zeros(_FIRST_ROOM, dtype=np.int32)
        self._fields = {name: empty_column(field, _FIRST_ROOM) for name, field in spec.item.items()}
        # How far the vocabulary's changes have been followed, for each key that items use.
        self._released = vocabulary.released
        self._marks = {key: vocabulary.mark(key) for key in vocabulary.keys if not key.startswith("context.")}

    def __len__(self) -> int:
        """Number of slots: one more than the highest slot that was ever given."""
        return len(self._items)

    @property
    def ids(self) -> list[str]:
        """Ids in slot order, "" where a slot is free. Not to be changed."""
        return self._ids

    @property
    def holes(self) -> bool:
        """Whether a slot was given back and is free now."""
        return len(self.slot_of) < len(self)

    @property
    def mark(self) -> Mark:
        """A mark of now, for a later `changes`."""
        return self._slots.mark

    def changes(self, since: Mark | None) -> Changes:
        """Which slots were given and which were given back since a mark; see `Rows.changes`."""
        return self._slots.changes(since)

    @property
    def live_N(self) -> npt.NDArray[np.bool_]:  # noqa: N802, the shape is part of the name
        """Which slots hold an item that is not withdrawn. It is the same array until one comes or goes."""
        if self._shown is None:
            self._shown = self._live[: len(self)].copy()
            self._shown.flags.writeable = False
        return self._shown

    def is_live(self, slot: int) -> bool:
        """Whether a slot holds an item that is not withdrawn."""
        return bool(self._live[slot])

    def id_row(self, slot: int) -> int:
        """Row of `id` of one slot."""
        return int(self._id_rows[slot])

    @property
    def id_rows_N(self) -> npt.NDArray[np.int32]:  # noqa: N802, the shape is part of the name
        """Row of `id` by slot, as `encoded().id_rows_N`; a view."""
        self._follow()
        return self._id_rows[: len(self)]

    def apply(self, item: Item, *, admit: bool) -> int:
        """Takes one record of the log; amortised O(1).

        Args:
            item: The record.
            admit: Whether its id and its new values get rows of their own. Only the trainer does this, in lane order.

        Returns:
            Its slot. The slot is also returned when the record is an older version and is ignored.

        Raises:
            FeatureError: When an attribute does not fit the specification, or the record is too long to be kept. The
                catalogue has not changed then. A withdrawal with such an attribute holds.
                The item then keeps the attributes that it had.
        """
        self._follow()
        slot = self.slot_of.get(item.id, -1)
        before = self._items[slot] if slot >= 0 else None
        held = newer(before, item)
        if held is None:
            return slot
        item = _fitting(self.spec, held, before)
        try:
            written = _written(item) if admit else None
        except DataError as e:  # what was short as JSON may be too long in the form that is written
            raise FeatureError("item", f"{e} (item {item.id!r})") from None
        if slot < 0:
            slot = self._slots.take(item.id)
            if slot == len(self._items):
                self._make_room(slot + 1)
                self._ids.append("")
                self._items.append(None)
            self._ids[slot] = item.id
        self._items[slot] = item
        self._written.put(slot, written)
        self._set_live(slot, not item.withdrawn)
        self._write(slot, item, admit=admit)
        return slot

    def release(self, item_id: str) -> int:
        """Forgets an item, and takes back its slot and its row of `id`.

        Returns:
            The slot, which the next new item may take.

        Raises:
            DataError: The catalogue does not hold the item.
        """
        if item_id not in self.slot_of:
            raise DataError(f"the catalogue does not hold {item_id!r}, so it cannot be released")
        if self.vocabulary.has("id", item_id):
            self.take_row(self.slot_of[item_id])
        slot = self._slots.release(item_id)
        self._ids[slot], self._items[slot] = "", None
        self._written.put(slot, None)
        self._set_live(slot, False)
        self._id_rows[slot] = UNKNOWN
        for name, field in self.spec.item.items():
            self._fields[name][slot] = -1 if field.kind in ("category", "text") else 0
        return slot

    def _set_live(self, slot: int, live: bool) -> None:
        if self._shown is None or len(self._shown) != len(self) or bool(self._live[slot]) != live:
            self._shown = None
        self._live[slot] = live

    def take_row(self, slot: int) -> None:
        """Takes the own row of `id` back from an item, which stays in the catalogue.

        Raises:
            DataError: It has none.
        """
        self._follow()
        self.vocabulary.release("id", self._ids[slot])
        # No other item has this row, so nobody has to be looked for.
        self._released, self._marks["id"] = self.vocabulary.released, self.vocabulary.mark("id")
        self._id_rows[slot] = self.vocabulary.shared_row("id", self._ids[slot])

    def give_row(self, slot: int) -> int:
        """Gives an item a row of `id` of its own, if there is room. Returns the row, or -1."""
        row = self.vocabulary.admit("id", self._ids[slot])
        if row >= 0:
            self._id_rows[slot] = row
        return row

    def write_again(self, name: str, rows: Sequence[int]) -> None:
        """Computes the rows again of each item that has one of these rows in an attribute."""
        self._follow()
        column = self._fields[name][: len(self)]
        for slot in np.flatnonzero(np.isin(column, rows).any(1)).tolist():
            item = self._items[slot]
            if item is not None:
                self._write(slot, item, admit=False)

    def _write(self, slot: int, item: Item, *, admit: bool) -> None:
        """Writes the rows of an item, with the vocabulary of this moment."""
        self._id_rows[slot] = self.vocabulary.row("id", item.id, admit=admit)
        for name, field in self.spec.item.items():
            value = item.attributes.get(name)
            row = self._fields[name][slot]
            row[:] = -1 if field.kind in ("category", "text") else 0
            if value is not None:
                write_value(row, f"item.{name}", field, value, self.vocabulary, admit=admit)

    def _follow(self) -> None:
        """Writes the rows again of each item that has a row which the vocabulary took back since the last call."""
        if self._released == self.vocabulary.released:
            return
        self._released = self.vocabulary.released
        count, stale = len(self), set()
        # Of each key, the rows that were taken back since its mark; an item is stale when any of its columns has one.
        for key, mark in self._marks.items():
            _, evicted, self._marks[key] = self.vocabulary.changes(key, mark)
            if evicted:
                rows = self._id_rows[:count, None] if key == "id" else self._fields[key.removeprefix("item.")][:count]
                stale |= set(np.flatnonzero(np.isin(rows, evicted).any(1)).tolist())
        for slot in sorted(stale):
            item = self._items[slot]
            if item is not None:
                self._write(slot, item, admit=False)

    def _make_room(self, count: int) -> None:
        room = len(self._live)
        if count <= room:
            return
        grown = max(count, 2 * room)
        self._live = np.concatenate([self._live, np.zeros(grown - room, dtype=bool)])
        self._id_rows = np.concatenate([self._id_rows, np.zeros(grown - room, dtype=np.int32)])
        for name, array in self._fields.items():
            self._fields[name] = np.concatenate([array, np.zeros((grown - room, array.shape[1]), dtype=array.dtype)])

    def slot(self, item_id: str) -> int:
        """Slot of an item, -1 when it was never seen."""
        return self.slot_of.get(item_id, -1)

    def slots(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Slots of many items, int32 [N]; -1 for those never seen."""
        find = self.slot_of.get
        return np.array([find(item_id, -1) for item_id in item_ids], dtype=np.int32)

    def slots_in(self, data: Buffer, starts_N: Integers, lengths_N: Integers) -> npt.NDArray[np.int32]:
        """Slots of many items whose ids are pieces of a buffer, int32 `[N]`; -1 for those never seen. See `Lookup`."""
        return self._lookup.rows_in(data, starts_N, lengths_N)

    def item(self, slot: int) -> Item:
        """The record that holds in a slot. The slot is 0 to `len - 1`, and not free."""
        item = self._items[slot] if slot >= 0 else None
        if item is None:
            raise IndexError(f"there is no item in slot {slot}")
        return item

    def encoded(self, slots: npt.NDArray[np.integer[Any]] | Sequence[int] | None = None) -> EncodedItems:
        """Rows of the items in some slots, or of all items in slot order.

        For all items the arrays are views: do not change them. A free slot has the rows of an item without values: the
        unknown id, and no value in any field.

        Raises:
            DataError: When a slot is -1 or beyond the last.
        """
        self._follow()
        count = len(self)
        if slots is None:
            return EncodedItems(self._id_rows[:count], {name: array[:count] for name, array in self._fields.items()})
        chosen = np.asarray(slots, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= count):
            raise DataError(f"slots must be 0 to {count - 1}, not {chosen.min()} to {chosen.max()}")
        return EncodedItems(self._id_rows[chosen], {name: array[chosen] for name, array in self._fields.items()})

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Everything as plain arrays, for a checkpoint.

        Returns:
            `items`, `id_rows`, and `field.<name>` for each field. `items` is uint8: for each record its length (4
            bytes, little-endian), then its wire form. A free slot has length 0; versions that had no free
            slots refuse it.
        """
        self._follow()
        count = len(self)
        fields = {f"field.{name}": array[:count].copy() for name, array in self._fields.items()}
        items = self._written.joined(lambda slot: _written(self._items[slot]))
        return {"items": items, "id_rows": self._id_rows[:count].copy(), **fields}

    @classmethod
    def restore(cls, spec: FeatureSpec, vocabulary: Vocabulary, snapshot: Mapping[str, npt.NDArray[Any]]) -> Catalogue:
        """The catalogue that `snapshot` was taken of, with the vocabulary of the same moment.

        Raises:
            DataError: When the snapshot is damaged or belongs to another specification.
        """
        catalogue = cls(spec, vocabulary)
        expected = {"items", "id_rows", *catalogue._snapshot_names()}
        if set(snapshot) != expected:
            raise DataError(f"catalogue and specification differ in {', '.join(sorted(set(snapshot) ^ expected))}")
        data = np.ascontiguousarray(snapshot["items"], dtype=np.uint8).tobytes()
        # One record after the other: 4 bytes of length, then so many bytes of the record.
        at, seen = 0, set[str]()
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            record = data[at + 4 : at + 4 + length]
            if len(record) != length or at + 4 > len(data):
                raise DataError(f"the catalogue's items are cut short at byte {at}")
            item = decode(Item, record) if length else None
            if item is not None and item.id in seen:
                raise DataError(f"the catalogue holds {item.id!r} twice")
            seen.add("" if item is None else item.id)
            catalogue._ids.append("" if item is None else item.id)
            catalogue._items.append(item)
            catalogue._written.put(len(catalogue._ids) - 1, data[at : at + 4 + length])
            at += 4 + length
        catalogue._slots.restore([item_id or None for item_id in catalogue._ids])
        catalogue._lookup = Lookup(catalogue._slots)
        count = len(catalogue)
        catalogue._make_room(count)
        catalogue._live[:count] = [item is not None and not item.withdrawn for item in catalogue._items]
        _fill(catalogue._id_rows, snapshot["id_rows"], count, "id", spec.rows("id"), 0)
        for name, field in spec.item.items():
            height = spec.rows(f"item.{name}") if field.kind in ("category", "text") else 0
            _fill(catalogue._fields[name], snapshot[f"field.{name}"], count, f"item.{name}", height, -1)
        return catalogue

    def _snapshot_names(self) -> list[str]:
        return [f"field.{name}" for name in self._fields]


def _fitting(spec: FeatureSpec, item: Item, before: Item | None) -> Item:
    """The record, if its attributes fit. A withdrawal holds in any case: the item is gone, whatever else is wrong."""
    for name, field in spec.item.items():
        value = item.attributes.get(name)
        problem = None if value is None else problem_of(field, value)
        if problem is None:
            continue
        if before is not None and item.withdrawn:
            return msgspec.structs.replace(item, attributes=before.attributes)
        raise FeatureError(f"item.{name}", f"{problem} (item {item.id!r})")
    return item


def _written(item: Item | None) -> bytes:
    """How a snapshot holds a record."""
    return framed(b"" if item is None else encode(item))


def _fill(into: npt.NDArray[Any], saved: npt.NDArray[Any], count: int, key: str, height: int, least: int) -> None:
    """Checks the shape, type and range of saved rows, and copies them. With `height` 0 they are numbers, not rows."""
    if saved.shape != (count, *into.shape[1:]) or saved.dtype != into.dtype:
        raise DataError(f"catalogue {key}: {saved.dtype} {saved.shape} is not {into.dtype} {(count, *into.shape[1:])}")
    if not saved.size:
        return
    if (saved.min() < least or saved.max() >= height) if height else not np.isfinite(saved).all():
        raise DataError(f"catalogue {key}: has a value out of range")
    into[:count] = saved

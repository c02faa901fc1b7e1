"""The items as of a position of the log, with their rows: what training, export and serving all read.

An item gets the next slot when it is first seen and keeps it for good, withdrawn or not. Of two records of one item
the higher version holds; of equal versions, the later one in the log. A withdrawal without attributes keeps the
attributes it had, so that a history that names the item still means something.

An item's rows are computed **when it is applied**, with the vocabulary of that moment. Where every item is applied
with `admit=True`, as the trainer does, the same rows come out whenever they are computed again with the later
vocabulary: an admitted value keeps its row, and a value that found the vocabulary full always will. An item applied
with `admit=False` keeps its hashed rows until it is applied again, also when another item admits the value later. A
snapshot holds the rows themselves, so that a resumed run goes on with the same bytes either way.

It does not know positions: whoever applies items keeps them.

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
from recdistill.features.spec import FeatureError, FeatureSpec
from recdistill.features.values import empty_column, problem_of, write_value
from recdistill.features.vocabulary import Vocabulary
from recdistill.records import Item, decode, encode

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
        self.slot_of: dict[str, int] = {}
        self._ids: list[str] = []
        self._items: list[Item] = []
        self._written: list[bytes | None] = []  # wire form, made when first asked for
        self._live = np.zeros(_FIRST_ROOM, dtype=bool)
        self._id_rows = np.zeros(_FIRST_ROOM, dtype=np.int32)
        self._fields = {name: empty_column(field, _FIRST_ROOM) for name, field in spec.item.items()}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ids(self) -> list[str]:
        """Ids in slot order. Not to be changed."""
        return self._ids

    @property
    def live_N(self) -> npt.NDArray[np.bool_]:  # noqa: N802, the shape is part of the name
        """Which slots hold an item that is not withdrawn; a copy."""
        return self._live[: len(self)].copy()

    def apply(self, item: Item, *, admit: bool) -> int:
        """Takes one record of the log; amortised O(1).

        Args:
            item: The record.
            admit: Whether its id and its new values get rows of their own: the trainer only, in lane order.

        Returns:
            Its slot, also when an older version was ignored.

        Raises:
            FeatureError: When an attribute does not fit the specification; nothing has changed then.
        """
        slot = self.slot_of.get(item.id, -1)
        if slot >= 0:
            present = self._items[slot]
            if item.version < present.version:
                return slot
            if item.withdrawn and not item.attributes:
                item = msgspec.structs.replace(item, attributes=present.attributes)
        for name, field in self.spec.item.items():
            value = item.attributes.get(name)
            problem = None if value is None else problem_of(field, value)
            if problem is not None:
                raise FeatureError(f"item.{name}", f"{problem} (item {item.id!r})")
        if slot < 0:
            slot = len(self._items)
            self._make_room(slot + 1)
            self.slot_of[item.id] = slot
            self._ids.append(item.id)
            self._items.append(item)
            self._written.append(None)
        else:
            self._items[slot] = item
            self._written[slot] = None
        self._live[slot] = not item.withdrawn
        self._id_rows[slot] = self.vocabulary.row("id", item.id, admit=admit)
        for name, field in self.spec.item.items():
            value = item.attributes.get(name)
            row = self._fields[name][slot]
            row[:] = -1 if field.kind in ("category", "text") else 0
            if value is not None:
                write_value(row, f"item.{name}", field, value, self.vocabulary, admit=admit)
        return slot

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

    def item(self, slot: int) -> Item:
        """The record that holds in a slot (0 to `len - 1`)."""
        if slot < 0:
            raise IndexError(f"there is no slot {slot}")
        return self._items[slot]

    def encoded(self, slots: npt.NDArray[np.integer[Any]] | Sequence[int] | None = None) -> EncodedItems:
        """Rows of the items in some slots, or of all of them in slot order (then as views that are not to be changed).

        Raises:
            DataError: When a slot is -1 or beyond the last.
        """
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
            `items` (uint8: of each record its length, 4 bytes little-endian, then its wire form), `id_rows`, and
            `field.<name>` for each field.
        """
        count = len(self)
        chunks: list[bytes] = []
        for slot in range(count):
            written = self._written[slot]
            if written is None:
                written = self._written[slot] = encode(self._items[slot])
            chunks += (len(written).to_bytes(4, "little"), written)
        fields = {f"field.{name}": array[:count].copy() for name, array in self._fields.items()}
        items = np.frombuffer(b"".join(chunks), dtype=np.uint8).copy()
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
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            record = data[at + 4 : at + 4 + length]
            if len(record) != length or at + 4 > len(data):
                raise DataError(f"the catalogue's items are cut short at byte {at}")
            item = decode(Item, record)
            if item.id in catalogue.slot_of:
                raise DataError(f"the catalogue holds {item.id!r} twice")
            catalogue.slot_of[item.id] = len(catalogue._items)
            catalogue._ids.append(item.id)
            catalogue._items.append(item)
            catalogue._written.append(record)
            at += 4 + length
        count = len(catalogue)
        catalogue._make_room(count)
        catalogue._live[:count] = [not item.withdrawn for item in catalogue._items]
        _fill(catalogue._id_rows, snapshot["id_rows"], count, "id", spec.rows("id"), 0)
        for name, field in spec.item.items():
            height = spec.rows(f"item.{name}") if field.kind in ("category", "text") else 0
            _fill(catalogue._fields[name], snapshot[f"field.{name}"], count, f"item.{name}", height, -1)
        return catalogue

    def _snapshot_names(self) -> list[str]:
        return [f"field.{name}" for name in self._fields]


def _fill(into: npt.NDArray[Any], saved: npt.NDArray[Any], count: int, key: str, height: int, least: int) -> None:
    """Copies saved rows after checking their shape, type and (where `height` says that they are rows) range."""
    if saved.shape != (count, *into.shape[1:]) or saved.dtype != into.dtype:
        raise DataError(f"catalogue {key}: {saved.dtype} {saved.shape} is not {into.dtype} {(count, *into.shape[1:])}")
    if not saved.size:
        return
    if (saved.min() < least or saved.max() >= height) if height else not np.isfinite(saved).all():
        raise DataError(f"catalogue {key}: has a value out of range")
    into[:count] = saved

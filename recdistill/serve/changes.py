"""Makes the next state of a catalogue from new records.

For each item it decides which record is valid, and whether the item needs a new row or only a new flag. It does not
know requests or where records come from.

Example:
    >>> from recdistill.serve.index import Base
    >>> state = State.first(["a"], Base(np.zeros((1, 3), np.float32)), popular=[], position=0)
    >>> spec = FeatureSpec()
    >>> tower = lambda rows: np.ones((len(rows.id_rows_N), 3), np.float32)
    >>> changes = Changes([Item("a")], spec, Vocabulary(spec), tower)
    >>> state, counts = changes.apply(state, [Item("b"), Item("a", version=2, withdrawn=True)], 2)
    >>> state.ids, state.live, counts["changed"], counts["withdrawn"]
    (['a', 'b'], 1, 1, 1)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from recdistill.features import Catalogue, EncodedItems, FeatureError, FeatureSpec, Vocabulary
from recdistill.model import layout
from recdistill.records import Item, Value, newer
from recdistill.serve.index import Floats, Mask
from recdistill.serve.prior import MOST, Prior
from recdistill.serve.state import State

log_ = logging.getLogger(__name__)


class Changes:
    """The changes of a recommender's catalogue since its bundle was exported. Only one thread may use it at a time.

    Args:
        items: The items of the bundle.
        spec: The feature specification: which attributes are used.
        vocabulary: Rows of their values. It does not grow here.
        tower: Encoded items -> their rows.
        known: Makes the rows of the bundle's items from which a new item can learn, see `known_rows`. None: a new item
            gets its row from its attributes alone.
    """

    def __init__(
        self,
        items: Sequence[Item],
        spec: FeatureSpec,
        vocabulary: Vocabulary,
        tower: Callable[[EncodedItems], Floats],
        known: Callable[[], tuple[Floats, Floats]] | None = None,
    ) -> None:
        self._spec, self._vocabulary, self._tower = spec, vocabulary, tower
        self.known = known
        self._prior: Prior | None = None
        self._records = {item.id: item for item in items}

    def apply(self, state: State, items: Sequence[Item], position: int) -> tuple[State, dict[str, int]]:
        """The state after some records, and counts of what was done with them.

        Args:
            state: The newest state.
            items: Records in log order.
            position: Next offset of `items` after them.
        """
        counts = dict.fromkeys(("changed", "withdrawn", "ignored", "refused"), 0)
        fresh = Catalogue(self._spec, self._vocabulary)
        live_T = state.shelf.live_T.copy()
        for item in items:
            counts[self._take(item, fresh, state, live_T)] += 1
        return self._with(state, fresh, live_T, position), counts

    def _take(self, item: Item, fresh: Catalogue, state: State, live_T: Mask) -> str:
        """Takes one record, and returns what was done with it.

        An item that needs a new vector goes into `fresh`. For any other item, only its flag in `live_T` is set.
        """
        before = self._records.get(item.id)
        held = newer(before, item)
        if held is None:
            return "ignored"
        item = held
        slot, again = state.slot_of.get(item.id, -1), fresh.slot(item.id) >= 0
        # `stands`: the item's row is still right, because its attributes are the same.
        stands = slot >= 0 and before is not None and _same(before.attributes, item.attributes)
        if not again and (stands or (item.withdrawn and slot < 0)):
            self._records[item.id] = item
            was_live = slot >= 0 and bool(live_T[slot])
            if slot >= 0:
                live_T[slot] = not item.withdrawn
            if was_live != item.withdrawn:
                return "ignored"
        else:
            try:
                fresh.apply(item, admit=False)
            except FeatureError as e:
                if item.withdrawn and before is not None and item.attributes:  # it is gone, whatever else is wrong
                    return self._take(msgspec.structs.replace(item, attributes={}), fresh, state, live_T)
                log_.warning("an item record is left out: %s", e)
                return "refused"
            self._records[item.id] = item
        return "withdrawn" if item.withdrawn else "changed"

    def _with(self, state: State, fresh: Catalogue, live_T: Mask, position: int) -> State:
        """The state with the rows of `fresh` in its overlay, and with new flags."""
        if not len(fresh):
            return state.after(state.overlay, live_T, position)
        rows_FW = self._with_prior(fresh, self._tower(fresh.encoded()))
        overlay = state.overlay.put([fresh.item(place) for place in range(len(fresh))], rows_FW)
        # The row that the item had is out of date, in the bundle or in the overlay. Its new row is used instead.
        live_T[[slot for item in fresh.ids if (slot := state.slot_of.get(item)) is not None]] = False
        flags_T = np.concatenate([live_T, fresh.live_N])
        if overlay.crowded:
            overlay, kept = overlay.compact()
            count = len(state.base_ids)
            flags_T = np.concatenate([flags_T[:count], flags_T[count:][kept]])
        return state.after(overlay, flags_T, position)

    def _with_prior(self, fresh: Catalogue, rows_FW: Floats) -> Floats:
        """Adds the mean of similar items (`Prior`) to the row of each item that training never knew."""
        new = [place for place, item in enumerate(fresh.ids) if not self._vocabulary.has("id", item)]
        if self.known is not None and new:
            if self._prior is None:  # made only when the first new item comes, because many bundles never see one
                self._prior = Prior(*self.known())
            rows_FW = rows_FW.copy()
            rows_FW[new] += self._prior.beyond(rows_FW[new])
            rows_FW[new, layout.WEIGHT] = np.maximum(rows_FW[new, layout.WEIGHT], 0)
        return rows_FW


def known_rows(
    items: Sequence[Item],
    rows_NW: Floats,
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    tower: Callable[[EncodedItems], Floats],
) -> tuple[Floats, Floats]:
    """For some items of a bundle: the rows that their attributes alone give, and the rows that they really have.

    Only items count for which training has learnt a row. If there are many, every n-th is taken.
    """
    own = np.array([n for n, item in enumerate(items) if vocabulary.has("id", item.id)], np.int64)
    own = own[:: max(1, -(-len(own) // MOST))]
    some = Catalogue(spec, vocabulary)
    taken = [n for n in own.tolist() if _fits(some, items[n])]
    shared = np.array([vocabulary.shared_row("id", items[n].id) for n in taken], np.int32)
    return tower(EncodedItems(shared, some.encoded().fields)), rows_NW[taken]


def _fits(catalogue: Catalogue, item: Item) -> bool:
    try:
        catalogue.apply(item, admit=False)
    except FeatureError:
        return False
    return True


def _same(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Whether two sets of attributes are equal, types included: `true` is not 1."""
    return one == other and repr(one) == repr(other)

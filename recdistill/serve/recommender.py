"""Answers from a bundle and the live changes to its catalogue: what the endpoint serves and the judge measures.

A request's history and context become a user vector (ONNX); the best items for it are found, filtered, and refilled to
k. A request of which nothing is known (no known item in its history, no context) gets the popular items first; the
answer says which. An answer is never empty while a live item passes its filters.

All state that a request reads is one immutable object; `apply_items` makes a new one and swaps the reference, so any
number of threads may ask while one applies. It does not know HTTP, logs or registries.

Example:
    >>> from pathlib import Path
    >>> from recdistill.bundle import open_bundle
    >>> Recommender(open_bundle(Path("no/such/folder")))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Struct

from recdistill.bundle import Bundle, read_index
from recdistill.errors import BundleError, RequestError
from recdistill.features import Asker, Catalogue, FeatureError, Requests, encode_requests
from recdistill.model.run import ItemTower, UserTower
from recdistill.records import Event, Item, Value
from recdistill.serve.index import Base, Floats, Mask, Shelf, Slots

log = logging.getLogger(__name__)

Source = Literal["personal", "popular", "mixed", "similar"]
USER_LIMIT = 1e15  # a component of a user vector at or beyond it, or not finite, counts as 0; so does the device file
GOLDEN_TOLERANCE = 2e-4  # of scores of size one: towers agree within 1e-4, golden scores have five digits


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks: history (oldest first), context, items not to be shown, time (µs; 0: unknown, and so are all ages)."""

    history: tuple[Event, ...] = ()
    context: dict[str, Value] = {}
    exclude: tuple[str, ...] = ()
    time_us: int = 0


class Filters(Struct, frozen=True, forbid_unknown_fields=True):
    """Which items an answer may hold.

    Args:
        exclude: None of these.
        allow: Only these; None for all.
        where: Attribute → value. The attribute must be the value, or hold it if it is a list; of several values in a
            list, one is enough.
    """

    exclude: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    where: dict[str, Value] = {}


class Answer(Struct, frozen=True):
    """Items, best first.

    Args:
        items: Ids.
        scores: The student's score of each for this request; of a similar item, the cosine.
        source: Where the order comes from; "mixed": popular items, then personal ones.
        bundle: Content hash.
        overlay: Next offset of `items` that the catalogue has not seen.
        unknown_history: Events left out because their item is not in the catalogue.
        unknown_candidates: Candidates of `rank` left out because they are not in the catalogue, or withdrawn.
    """

    items: list[str]
    scores: list[float]
    source: Source
    bundle: Annotated[str, msgspec.Meta(description="Content hash of the bundle.")]
    overlay: int
    unknown_history: int = 0
    unknown_candidates: int = 0


class _Layered(Mapping[str, int]):
    """Slots of the overlay before those of the base."""

    def __init__(self, base: dict[str, int], moved: dict[str, int]) -> None:
        self.base, self.moved = base, moved

    def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
        found = self.moved.get(key)
        return self.base.get(key, default) if found is None else found

    def __getitem__(self, key: str) -> int:
        return self.moved[key] if key in self.moved else self.base[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.base | self.moved)

    def __len__(self) -> int:
        return len(self.base | self.moved)


@dataclass(frozen=True)
class _State:
    """All that a request reads of the catalogue. Never changed."""

    shelf: Shelf
    slot_of: Mapping[str, int]
    ids_beside: list[str]  # ids of the overlay's slots
    items_beside: list[Item]
    popular: Slots
    position: int


class Recommender:
    """A bundle that answers.

    Args:
        bundle: The opened bundle.
        threads: Threads of one inference.

    Raises:
        BundleError: A tower or the index cannot be loaded.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self._users = UserTower(bundle.user_tower, source=str(bundle.path / "user_tower.onnx"), threads=threads)
        self._items = ItemTower(bundle.item_tower, source=str(bundle.path / "item_tower.onnx"), threads=threads)
        info = bundle.manifest.content.index
        index = None
        if bundle.index is not None:
            count, width = bundle.vectors_NW.shape
            index = read_index(bundle.index, count=count, width=width - 1, source=str(bundle.path / "index.faiss"))
        self._ids = [item.id for item in bundle.items]
        slot_of = {item: slot for slot, item in enumerate(self._ids)}
        width = bundle.vectors_NW.shape[1]
        shelf = Shelf(
            Base(bundle.vectors_NW, index, info.probes), np.zeros((0, width), np.float32), np.ones(len(self._ids), bool)
        )
        popular = np.array([slot_of[item] for item, _ in bundle.popular], np.int64)
        self._first = self._state = _State(shelf, slot_of, [], [], popular, bundle.manifest.content.base_position)
        self._norms_N = np.linalg.norm(bundle.vectors_NW[:, :-2], axis=1)
        self._postings: dict[str, dict[tuple[type, Value], Slots]] = {}
        # Only `apply_items` reads or changes what follows.
        self._writer = threading.Lock()
        self._records = {item.id: item for item in bundle.items}

    @property
    def content_hash(self) -> str:
        """The bundle's."""
        return self.bundle.content_hash

    @property
    def ids(self) -> list[str]:
        """Item ids by slot: the columns of `score_all`. A changed item comes twice, and is live once."""
        return self._ids + self._state.ids_beside

    @property
    def position(self) -> int:
        """Next offset of `items` that the catalogue has not seen."""
        return self._state.position

    @property
    def live(self) -> int:
        """How many items may be answered now."""
        return int(np.count_nonzero(self._state.shelf.live_T))

    def recommend(
        self, requests: Sequence[Request], k: int, filters: Filters | Sequence[Filters | None] | None = None
    ) -> list[Answer]:
        """The best k items for each request.

        Args:
            requests: B requests.
            k: Most items in an answer; fewer come only when fewer pass.
            filters: For all requests, or one each.

        Raises:
            RequestError: A context value does not fit its field, or k is not positive.
        """
        _check_k(k)
        if not requests:
            return []
        each = [filters] * len(requests) if isinstance(filters, Filters | None) else list(filters)
        if len(each) != len(requests):
            raise RequestError(
                "filters", f"must be one for all or one each of {len(requests)} requests, not {len(each)}"
            )
        state = self._state
        encoded, users_BD = self._encode(state, requests)
        known_B = (encoded.history_slots_BH >= 0).any(1) | _has_context(encoded, len(requests))
        answers = []
        for row, (request, chosen) in enumerate(zip(requests, each, strict=True)):
            allowed_T = self._allowed(state, chosen, request.exclude)
            user_D = users_BD[row]
            liked = state.popular[allowed_T[state.popular]][:k]
            source: Source = "personal"
            if known_B[row] or not len(liked):
                slots, scores = state.shelf.search(user_D, k, allowed_T)
            else:
                slots, source = liked, "popular"
                if len(liked) < k:
                    rest_T = allowed_T.copy()
                    rest_T[liked] = False
                    more, _ = state.shelf.search(user_D, k - len(liked), rest_T)
                    if len(more):
                        slots, source = np.concatenate([liked, more]), "mixed"
                scores = _score(state, user_D, slots)
            answers.append(self._answer(state, slots, scores, source, int(encoded.unknown_B[row])))
        return answers

    def rank(self, request: Request, candidates: Sequence[str]) -> Answer:
        """The given candidates, best first; those not in the catalogue, or withdrawn, are left out and counted.

        Raises:
            RequestError: A context value does not fit its field.
        """
        state = self._state
        encoded, users_BD = self._encode(state, [request])
        found = self._slots(state, dict.fromkeys(candidates))
        slots = found[state.shelf.live_T[found]]
        scores = _score(state, users_BD[0], slots)
        order = np.lexsort((slots, -scores))
        unknown = len(set(candidates)) - len(slots)
        return self._answer(state, slots[order], scores[order], "personal", int(encoded.unknown_B[0]), unknown)

    def similar(self, item: str, k: int, filters: Filters | None = None) -> Answer:
        """The items whose vectors point most nearly the same way as an item's; the item itself is left out.

        Raises:
            RequestError: The item is not in the catalogue, or k is not positive.
        """
        _check_k(k)
        state = self._state
        slot = state.slot_of.get(item)
        if slot is None:
            raise RequestError("item", f"{item!r} is not in the catalogue; give the id of an item")
        vector_D = state.shelf.rows(np.array([slot]))[0, :-2]
        beside_M = np.linalg.norm(state.shelf.overlay_MW[:, :-2], axis=1)
        norms_T = np.concatenate([self._norms_N, beside_M]) * np.linalg.norm(vector_D)
        products_T = np.concatenate(
            [part_SW[:, :-2] @ vector_D for part_SW in (state.shelf.base.vectors_NW, state.shelf.overlay_MW)]
        )
        cosines_T = products_T / np.maximum(norms_T, np.finfo(np.float32).tiny)
        slots = np.flatnonzero(self._allowed(state, filters, (item,)))
        slots = slots[np.lexsort((slots, -cosines_T[slots]))][:k]
        return self._answer(state, slots, cosines_T[slots], "similar", 0)

    def score_all(self, requests: Sequence[Asker]) -> Floats:
        """Scores of every slot, float32 `[B, len(ids)]`; −inf where it holds no live item.

        Raises:
            RequestError: A context value does not fit its field.
        """
        state = self._state
        _, users_BD = self._encode(state, requests)
        scores_BT = state.shelf.scores(users_BD)
        scores_BT[:, ~state.shelf.live_T] = -np.inf
        return scores_BT

    def check_golden(self) -> None:
        """Asks the bundle's golden requests of the bundle as it was exported.

        Raises:
            BundleError: An answer is not what it was at export; it names the request and both scores.
        """
        state = self._first
        for number, golden in enumerate(self.bundle.golden):
            _, users_BD = self._encode(state, [golden])
            scores_N = state.shelf.scores(users_BD)[0]
            named = scores_N[self._slots(state, golden.items)]
            best = np.sort(scores_N)[::-1][: len(named)]
            expected = np.array(golden.scores)
            # Two items with nearly equal scores may change places, so scores are compared, not the order of ids.
            for found in (named, best):
                wrong = ~(np.abs(found - expected) <= GOLDEN_TOLERANCE * np.maximum(1.0, np.abs(expected)))
                if wrong.any():
                    at = int(np.flatnonzero(wrong)[0])
                    raise BundleError(
                        f"{self.bundle.path}: golden request {number} gives {found[at]:.6g} at place {at}, "
                        f"expected {expected[at]:.6g}; do not serve this bundle on this machine"
                    )

    def apply_items(self, items: Sequence[Item], position: int) -> dict[str, int]:
        """Takes catalogue records, in log order, into the overlay; answers reflect them from the next request on.

        A new item gets its vector from its attributes alone; one that only comes again changes nothing. A record that
        does not fit the feature specification is left out, so that one bad record cannot stop the others.

        Args:
            items: The records.
            position: Next offset of `items` after them.

        Returns:
            Counts: `changed` (new or with another vector), `withdrawn`, `ignored` (older, or nothing new), `refused`.
        """
        with self._writer:
            state = self._state
            counts = dict.fromkeys(("changed", "withdrawn", "ignored", "refused"), 0)
            fresh = Catalogue(self.bundle.spec, self.bundle.vocabulary)
            live_T = state.shelf.live_T.copy()
            for item in items:
                counts[self._take(item, fresh, state, live_T)] += 1
            self._state = self._with(state, fresh, live_T, position)
            return counts

    def _take(self, item: Item, fresh: Catalogue, state: _State, live_T: Mask) -> str:
        """Sorts one record in: into `fresh` when it needs a vector, else into the flags. Returns what became of it."""
        before = self._records.get(item.id)
        if before is not None:
            if item.version < before.version:
                return "ignored"
            if item.withdrawn and not item.attributes:
                item = msgspec.structs.replace(item, attributes=before.attributes)
        slot, again = state.slot_of.get(item.id, -1), fresh.slot(item.id) >= 0
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
                log.warning("an item record is left out: %s", e)
                return "refused"
            self._records[item.id] = item
        return "withdrawn" if item.withdrawn else "changed"

    def _with(self, state: _State, fresh: Catalogue, live_T: Mask, position: int) -> _State:
        """The state with the rows of `fresh` in its overlay, and with new flags."""
        shelf, moved = state.shelf, {}
        ids, items = list(state.ids_beside), list(state.items_beside)
        overlay_MW = shelf.overlay_MW
        if len(fresh):
            rows_FW = self._items(fresh.encoded())
            count = len(self._ids)
            live_fresh = fresh.live_N
            moved = dict(state.slot_of.moved) if isinstance(state.slot_of, _Layered) else {}
            kept, flags = list(overlay_MW), list(live_T[count:])
            for place, item in enumerate(fresh.ids):
                at = moved.get(item, -1) - count
                if at < 0:
                    at = len(kept)
                    moved[item] = count + at
                    ids.append(item)
                    items.append(fresh.item(place))
                    kept.append(rows_FW[place])
                    flags.append(live_fresh[place])
                else:
                    kept[at], items[at], flags[at] = rows_FW[place], fresh.item(place), live_fresh[place]
                if (old := self._first.slot_of.get(item)) is not None:
                    live_T[old] = False
            overlay_MW = np.stack(kept)
            live_T = np.concatenate([live_T[:count], np.array(flags, bool)])
        slot_of = _Layered(self._first_slots, moved) if moved else state.slot_of
        popular = np.array([slot_of[item] for item, _ in self.bundle.popular], np.int64)
        return _State(Shelf(shelf.base, overlay_MW, live_T), slot_of, ids, items, popular, position)

    @property
    def _first_slots(self) -> dict[str, int]:
        slot_of = self._first.slot_of
        return slot_of if isinstance(slot_of, dict) else dict(slot_of)

    def _encode(self, state: _State, requests: Sequence[Asker]) -> tuple[Requests, Floats]:
        bundle = self.bundle
        try:
            encoded = encode_requests(bundle.spec, bundle.vocabulary, state, requests)
        except FeatureError as e:
            where = e.field if len(requests) == 1 else f"requests[{e.row}].{e.field}"
            raise RequestError(where, e.problem) from e
        users_BD = self._users(encoded, state.shelf.rows(encoded.history_slots_BH))
        # An absurd context vector (1e38) must not turn every score into NaN, and so the answer into nothing.
        return encoded, np.where(np.abs(users_BD) < USER_LIMIT, users_BD, np.float32(0))

    def _allowed(self, state: _State, filters: Filters | None, exclude: Sequence[str]) -> Mask:
        """Which slots an answer may hold, `[T]`."""
        allowed_T = state.shelf.live_T
        if filters is not None and filters.allow is not None:
            chosen_T = np.zeros(len(allowed_T), bool)
            chosen_T[self._slots(state, filters.allow)] = True
            allowed_T = allowed_T & chosen_T
        for field, wanted in filters.where.items() if filters is not None else ():
            allowed_T = allowed_T & self._having(state, field, wanted)
        out = self._slots(state, exclude if filters is None else [*exclude, *filters.exclude])
        if len(out):
            allowed_T = allowed_T.copy()
            allowed_T[out] = False
        return allowed_T

    def _having(self, state: _State, field: str, wanted: Value) -> Mask:
        """Which slots have the attribute with one of the wanted values, `[T]`."""
        if field not in self._postings:
            found: dict[tuple[type, Value], list[int]] = {}
            for slot, item in enumerate(self.bundle.items):
                for key in _keys(item.attributes.get(field)):
                    found.setdefault(key, []).append(slot)
            self._postings[field] = {key: np.array(slots, np.int64) for key, slots in found.items()}
        keys = _keys(wanted)
        having_T = np.zeros(len(state.shelf.live_T), bool)
        for key in keys:
            having_T[self._postings[field].get(key, np.zeros(0, np.int64))] = True
        for place, item in enumerate(state.items_beside, len(self._ids)):
            having_T[place] = not keys.isdisjoint(_keys(item.attributes.get(field)))
        return having_T

    def _slots(self, state: _State, items: Sequence[str] | frozenset[str] | dict[str, None]) -> Slots:
        """Slots of those items that have one."""
        find = state.slot_of.get
        return np.array([slot for item in items if (slot := find(item)) is not None], np.int64)

    def _answer(
        self, state: _State, slots: Slots, scores: Floats, source: Source, unknown: int, candidates: int = 0
    ) -> Answer:
        count = len(self._ids)
        ids = [self._ids[slot] if slot < count else state.ids_beside[slot - count] for slot in slots.tolist()]
        return Answer(ids, scores.tolist(), source, self.bundle.content_hash, state.position, unknown, candidates)


def _score(state: _State, user_D: Floats, slots: Slots) -> Floats:
    rows = state.shelf.rows(slots)
    scores: Floats = rows[:, :-2] @ user_D + rows[:, -2]
    return scores


def _same(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Whether two sets of attributes are equal, types included: `true` is not 1."""
    return one == other and repr(one) == repr(other)


def _keys(value: Value | None) -> set[tuple[type, Value]]:
    """The values of an attribute, with their types, so that `true` is not 1."""
    members = value if isinstance(value, list) else () if value is None else (value,)
    return {(float, float(v)) if type(v) is int else (type(v), v) for v in members}


def _has_context(encoded: Requests, batch: int) -> Mask:
    """Whether a request has a context value that the student knows, `[B]`."""
    has_B = np.zeros(batch, bool)
    for values in encoded.context.values():
        has_B |= (values > 0).any(1) if values.dtype == np.int32 else (values != 0).any(1)
    return has_B


def _check_k(k: int) -> None:
    if k < 1:
        raise RequestError("k", f"must be at least 1, not {k}")

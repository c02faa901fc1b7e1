"""Finds the best items for a user vector, among a bundle's vectors and the live changes to them.

The base never changes: it is the vectors of a bundle and, for a large catalogue, the bundle's index. Changes are kept
apart from it: new rows are in the overlay, and each slot has a flag that says whether an answer may hold it. A `Shelf`
is one state of both. A change makes a new shelf, so readers never see half of a change.

Slots 0 … N−1 belong to the bundle, slots N … N+M−1 to the overlay. This module does not know ids, requests or towers.

Example:
    >>> shelf = Shelf(Base(np.eye(3, 5, dtype=np.float32)), np.zeros((0, 5), np.float32), np.array([True, False, True]))
    >>> shelf.search(np.array([1, 2, 3], np.float32), 2, shelf.live_T)[0].tolist()
    [2, 0]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recdistill.bundle import search_index, with_one
from recdistill.model import layout

WIDER: Final = 8  # when a search finds too few allowed items, it is repeated with this many times as many cells
SCAN_BELOW: Final = 20_000  # up to this many allowed items, all of them are scored without the index

_NONE: Final = np.zeros(0, np.float32)

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Base:
    """The part that comes from the bundle and never changes.

    Args:
        vectors_NW: Vector, bias and history weight of each item.
        index: A faiss IVF index over `[vector, bias]`. None: every item is scored.
        probes: How many cells of the index are searched.
    """

    vectors_NW: Floats
    index: Any = None
    probes: int = 0

    @cached_property
    def norms_N(self) -> Floats:  # noqa: N802, the shape is part of the name
        """Length of each vector."""
        norms: Floats = np.linalg.norm(self.vectors_NW[:, layout.VECTOR], axis=1)
        return norms


@dataclass(frozen=True)
class Shelf:
    """One state of base and overlay. It never changes. T = N + M slots.

    Args:
        base: The part of the bundle.
        overlay_MW: Rows of changed and new items.
        live_T: Whether an answer may hold the slot.
    """

    base: Base
    overlay_MW: Floats
    live_T: Mask

    def rows(self, slots: npt.NDArray[np.integer[Any]]) -> Floats:
        """Vector, bias and history weight of some slots, `[..., W]`. Slot −1 gives the row of slot 0."""
        slots = np.maximum(slots, 0)
        count = len(self.base.vectors_NW)
        # First, every row is taken from the base. For slots of the overlay this row is wrong, and it is replaced below.
        found: Floats = self.base.vectors_NW[np.minimum(slots, count - 1)]
        if len(self.overlay_MW):
            beyond = slots >= count
            found[beyond] = self.overlay_MW[slots[beyond] - count]
        return found

    def scores(self, users_BD: Floats) -> Floats:
        """Scores of all slots, `[B, T]`, whether they are live or not."""
        queries_BK = with_one(users_BD)
        both = (self.base.vectors_NW, self.overlay_MW)
        parts = [queries_BK @ part_SW[:, layout.KEY].T for part_SW in both if len(part_SW)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def cosines(self, slot: int) -> Floats:
        """Cosine of the vector of one slot with the vector of each slot, `[T]`. A vector of length 0 gives 0."""
        vector_D = self.rows(np.array([slot]))[0, layout.VECTOR]
        beside_M = np.linalg.norm(self.overlay_MW[:, layout.VECTOR], axis=1)
        norms_T = np.concatenate([self.base.norms_N, beside_M]) * np.linalg.norm(vector_D)
        both = (self.base.vectors_NW, self.overlay_MW)
        products_T = np.concatenate([part_SW[:, layout.VECTOR] @ vector_D for part_SW in both])
        cosines_T: Floats = products_T / np.maximum(norms_T, np.finfo(np.float32).tiny)
        return cosines_T

    def search(self, user_D: Floats, k: int, allowed_T: Mask) -> tuple[Slots, Floats]:
        """The best k allowed slots with their scores, best first. There are fewer only when fewer are allowed.

        Without an index, every slot is scored. With an index, the base is searched by the index and every slot of the
        overlay is scored; the best of both are sorted.
        """
        query_K = with_one(user_D[None])[0]
        if self.base.index is None:
            return _best(query_K @ self.base.vectors_NW[:, layout.KEY].T, self._beside(query_K), k, allowed_T)
        count = len(self.base.vectors_NW)
        allowed_N = allowed_T[:count]
        room = int(np.count_nonzero(allowed_N))
        slots = self._found(query_K, k, allowed_N, room)
        scores = self.base.vectors_NW[slots][:, layout.KEY] @ query_K
        if len(self.overlay_MW):
            slots, scores = self._with_beside(query_K, k, allowed_T[count:], slots, scores)
        order = np.lexsort((slots, -scores))[:k]
        return slots[order], scores[order]

    def _with_beside(
        self, query_K: Floats, k: int, allowed_M: Mask, slots: Slots, scores: Floats
    ) -> tuple[Slots, Floats]:
        """Adds the allowed slots of the overlay that may be among the best k.

        The overlay may be as large as the base. So nothing is sorted but what is as good as the base's k-th best.
        """
        beside_M = self._beside(query_K)
        if len(scores) >= k:
            least = scores.min() if len(scores) == k else np.partition(scores, len(scores) - k)[len(scores) - k]
            places = np.flatnonzero(beside_M >= least)
            places = places[allowed_M[places]]
        else:
            places = np.flatnonzero(allowed_M)
        if len(places) > k:
            best, _ = _best(_NONE, beside_M[places], k, np.ones(len(places), bool))
            places = places[best]
        return np.concatenate([slots, len(self.base.vectors_NW) + places]), np.concatenate([scores, beside_M[places]])

    def _beside(self, query_K: Floats) -> Floats:
        return query_K @ self.overlay_MW[:, layout.KEY].T

    def _found(self, query_K: Floats, k: int, allowed_N: Mask, room: int) -> Slots:
        """Slots of the base among which are its best k.

        The index is searched first, then once more with more cells. If both find too few slots, or if few slots are
        allowed, all allowed slots are returned.
        """
        if room > SCAN_BELOW:
            import faiss

            selector = None
            if room < len(allowed_N):
                bits = np.packbits(allowed_N, bitorder="little")  # faiss keeps a pointer to it during the search
                selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            keys_NK = self.base.vectors_NW[:, layout.KEY]
            for probes in (self.base.probes, WIDER * self.base.probes):
                found = search_index(self.base.index, keys_NK, query_K[None], k, probes, selector)[0]
                if len(found) >= min(k, room):
                    return found
        return np.flatnonzero(allowed_N)


def _best(base_N: Floats, beside_M: Floats, k: int, allowed_T: Mask) -> tuple[Slots, Floats]:
    """The best k allowed slots by their scores, the best first. Equal scores are in slot order."""
    scores_T = np.concatenate([base_N, beside_M]) if len(beside_M) else base_N
    scores_T = np.where(allowed_T, scores_T, -np.inf)
    # Partition finds the k-th best score without sorting all. Slots with that score or a better one are then sorted.
    if k < len(scores_T):
        least = np.partition(scores_T, len(scores_T) - k)[len(scores_T) - k]
        slots = np.flatnonzero(scores_T >= least)
    else:
        slots = np.arange(len(scores_T))
    slots = slots[np.lexsort((slots, -scores_T[slots]))][:k]
    slots = slots[allowed_T[slots]]
    return slots, scores_T[slots]

"""Popularity and ItemKNN as contenders, from what was counted while the student learnt (`recdistill.linear.Tally`).

They follow the same rules as the contenders of baselines.py. They answer from the history in the request. They never
list an item of that history or of `exclude`. Where scores are equal, the more popular item comes first. They do not
score the whole catalogue: popularity goes down a sorted list, and ItemKNN looks only at neighbours of the history. So a
million items cost little.

They know nothing of bundles or teachers. They need scipy, which the `train` and `linear` extras bring.

Example:
    >>> from recdistill.records import Event, Impression
    >>> tally = Tally()
    >>> tally.learn([(["a"], ["b"]), (["c"], ["d"]), ([], ["d"])])
    >>> asked = Impression("q", 9, history=(Event("a"),))
    >>> [(each.name, each.top([asked], 2)) for each in counted(tally, live=["a", "b", "c", "d"])]
    [('popularity', [['d', 'b']]), ('popularity_recent', [['d', 'b']]), ('itemknn', [['b', 'd']])]
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recdistill.judge.baselines import Contender
from recdistill.linear import EVENTS, Tally
from recdistill.records import Impression

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_BLOCK: Final = 256  # requests whose neighbours are in memory together


class _Known:
    """The items that were ever liked and are live, the most popular first.

    Args:
        counts_N: How often each item was liked, by its number.
        ids: The items.
        live: Those that may be listed.
    """

    def __init__(self, counts_N: Floats, ids: Sequence[str], live: Collection[str]) -> None:
        listable_N = np.fromiter((item in live for item in ids), bool, len(ids)) & (counts_N > 0)
        order = np.argsort(-counts_N, kind="stable")
        self.order = order[listable_N[order]]
        self.place_N = np.full(len(ids), len(ids), np.int64)
        self.place_N[self.order] = np.arange(len(self.order))
        self.names = np.array(ids, dtype=object)
        self.number = {item: n for n, item in enumerate(ids)}

    def barred(self, request: Impression) -> set[int]:
        """The numbers that no answer may hold."""
        items = (*(event.item for event in request.history), *request.exclude)
        return {n for item in items if (n := self.number.get(item, -1)) >= 0}

    def filled(self, first: list[int], barred: set[int], k: int) -> list[str]:
        """The names of the items in `first`, then the most popular other items, k names in all."""
        found, at = first[:k], 0
        there = barred.union(found)
        while len(found) < k and at < len(self.order):
            for n in self.order[at : at + k + len(there)].tolist():
                if n not in there and len(found) < k:
                    found.append(n)
            at += k + len(there)
        names: list[str] = self.names[found].tolist()
        return names


class CountedPopularity:
    """The items that were liked in most lists.

    Args:
        name: Its name in the report.
        counts_N: In how many lists each item was liked.
        known: The items.
    """

    def __init__(self, name: str, counts_N: Floats, known: _Known) -> None:
        self.name, self.size = name, 4 * int((counts_N > 0).sum())
        self._counts_N, self._known = counts_N, known

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The k best items for each request. There are fewer only when fewer items are left."""
        return [self._known.filled([], self._known.barred(request), k) for request in requests]

    def scores(self, requests: Sequence[Impression]) -> list[Floats]:
        """The count of each candidate that was shown. NaN: nobody has seen it in the lists that were learnt."""
        counts_N = np.append(self._counts_N, np.nan)  # an unknown item has number -1, so it gets this NaN
        return [counts_N[_numbers(request, self._known)] for request in requests]


class CountedNeighbours:
    """ItemKNN.

    Args:
        tally: What was counted.
        known: The items, by popularity.
    """

    name = "itemknn"

    def __init__(self, tally: Tally, known: _Known) -> None:
        self._near, self._known = tally.neighbours(), known
        self.size = 8 * int(self._near.nnz)

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The k best items for each request. Popular items fill the list where fewer are near its history."""
        known, found = self._known, list[list[str]]()
        for request, (numbers, scores) in self._scored(requests):
            barred = known.barred(request)
            place = known.place_N[numbers]
            free = (scores > 0) & (place < len(known.order)) & ~np.isin(numbers, list(barred))
            numbers, scores, place = numbers[free], scores[free], place[free]
            best = np.lexsort((place, -scores))[:k]
            found.append(known.filled(numbers[best].tolist(), barred, k))
        return found

    def scores(self, requests: Sequence[Impression]) -> list[Floats]:
        """The score of each candidate that was shown. NaN: nobody has seen it in the lists that were learnt."""
        found = []
        for request, (numbers, scores) in self._scored(requests):
            near = dict(zip(numbers.tolist(), scores.tolist(), strict=True))
            asked = _numbers(request, self._known).tolist()
            found.append(np.array([near.get(n, 0.0) if n >= 0 else np.nan for n in asked], np.float64))
        return found

    def _scored(self, requests: Sequence[Impression]) -> Iterator[tuple[Impression, tuple[Whole, Floats]]]:
        """Each request, with the numbers of the items near its history, and their scores."""
        for start in range(0, len(requests), _BLOCK):
            block = requests[start : start + _BLOCK]
            product = self._histories(block) @ self._near
            for row, request in enumerate(block):
                own = slice(product.indptr[row], product.indptr[row + 1])
                yield request, (product.indices[own].astype(np.int64), product.data[own])

    def _histories(self, requests: Sequence[Impression]) -> Any:
        from scipy import sparse

        number, rows, columns = self._known.number, list[int](), list[int]()
        for row, request in enumerate(requests):
            own = {number[event.item] for event in request.history[-EVENTS:] if event.item in number}
            rows += [row] * len(own)
            columns += sorted(own)
        shape = (len(requests), self._near.shape[0])
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def counted(tally: Tally, *, live: Collection[str]) -> list[Contender]:
    """Popularity over all that was counted, popularity over what is recent, and ItemKNN.

    Args:
        tally: What was counted.
        live: The items that may be listed.
    """
    ids, live = tally.ids, set(live)
    whole = _Known(tally.liked(ids), ids, live)
    lately = _Known(tally.lately(ids), ids, live)
    return [
        CountedPopularity("popularity", tally.liked(ids), whole),
        CountedPopularity("popularity_recent", tally.lately(ids), lately),
        CountedNeighbours(tally, whole),
    ]


def _numbers(request: Impression, known: _Known) -> Whole:
    return np.array([known.number.get(candidate.item, -1) for candidate in request.candidates], np.int64)

"""Simple rankers to compare every student with: popularity, ItemKNN and EASE. Fitting them takes seconds.

Each is a `Contender`. It answers a request from the history in the request, as a student does. It never lists an item
of that history or of `exclude`. Where scores are equal, the more popular item comes first. So all of them answer a
request without a history with the popular items. `recdistill.linear.likes` says which items a user likes.

It knows nothing of bundles or teachers. It needs scipy, which the `train` and `linear` extras bring.

Example:
    >>> from recdistill.records import Candidate, Event, Example, Impression, Ranking
    >>> def seen(user, *items):
    ...     impression = Impression(id=user, time_us=9, user=user, candidates=(Candidate(item="d"),),
    ...                             history=tuple(Event(item=i, time_us=1) for i in items))
    ...     return Example(ranking=Ranking(impression=impression, teacher_id="t", teacher_version="1", scale="logit",
    ...                                    scores=(0.0,), scored=(False,)), labels=(0.0,))
    >>> known = read_interactions([seen("u", "a", "b"), seen("v", "a", "b"), seen("w", "c"), seen("x", "a")])
    >>> itemknn(known).top([Impression(id="q", time_us=9, history=(Event(item="b"),))], 2)
    [['a', 'c']]
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recdistill import linear
from recdistill.linear import Interactions, read_interactions
from recdistill.metrics import top_k
from recdistill.records import Example, Impression

# Numbers that one block of scores may hold: 32 MB of float64.
_BLOCK = 4_000_000


class Contender(Protocol):
    """Anything that ranks the catalogue for a request."""

    @property
    def name(self) -> str:
        """Its name in the report."""

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """At most k item ids for each request, best first, without items of its history or its `exclude`."""

    def scores(self, requests: Sequence[Impression]) -> list[NDArray[np.float64]]:
        """A score for each candidate of each request, higher is better. NaN: it knows nothing of the item."""


class Baseline:
    """A contender that computes scores from the rows of a history matrix.

    Args:
        name: Its name in the report.
        ids: The items it ranks. Equal scores keep this order.
        score: Takes histories as a scipy CSR matrix `[B, N]`, gives scores `[B, N]`.
        live: The items that may be listed. None: all.
        size: Bytes of its learnt numbers, in float32.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        score: Callable[[Any], NDArray[Any]],
        live: Collection[str] | None,
        size: int,
    ) -> None:
        self.name = name
        self.size = size
        self._ids = np.array(ids, dtype=object)
        self._number = {item: n for n, item in enumerate(ids)}
        self._score = score
        self._dead = np.array([live is not None and item not in live for item in ids], bool)

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The k best items for each request. There are fewer only when fewer items are left."""
        out: list[list[str]] = []
        for block in self._blocks(requests):
            out += self._best(block, k)
        return out

    def scores(self, requests: Sequence[Impression]) -> list[NDArray[np.float64]]:
        """The score of each candidate that was shown. NaN: the training part does not have it."""
        out = []
        for block in self._blocks(requests):
            scores_BN, _ = self._score_all(block)
            for row, request in enumerate(block):
                at = np.array([self._number.get(candidate.item, -1) for candidate in request.candidates], np.int64)
                out.append(np.where(at >= 0, scores_BN[row, at], np.nan))
        return out

    def _blocks(self, requests: Sequence[Impression]) -> Iterator[Sequence[Impression]]:
        step = max(1, _BLOCK // len(self._ids))
        for start in range(0, len(requests), step):
            yield requests[start : start + step]

    def _score_all(self, requests: Sequence[Impression]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores of all items `[B, N]`, and the pairs (row of the request, number of the item) of the histories."""
        from scipy import sparse

        known = []
        for row, request in enumerate(requests):
            known += [(row, n) for n in {self._number[e.item] for e in request.history if e.item in self._number}]
        known_E2 = np.array(known, np.int64).reshape(-1, 2)
        shape = (len(requests), len(self._ids))
        histories = sparse.csr_matrix((np.ones(len(known_E2)), (known_E2[:, 0], known_E2[:, 1])), shape=shape)
        return np.array(self._score(histories), np.float64), known_E2

    def _best(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        scores_BN, known_E2 = self._score_all(requests)
        barred = [
            (row, self._number[item])
            for row, request in enumerate(requests)
            for item in request.exclude
            if item in self._number
        ]
        barred_E2 = np.array(barred, np.int64).reshape(-1, 2)
        # Items that may not be listed get −inf. They come last, and the count of finite scores cuts them off.
        scores_BN[:, self._dead] = -np.inf
        for pairs in (known_E2, barred_E2):
            scores_BN[pairs[:, 0], pairs[:, 1]] = -np.inf
        best_BK = top_k(scores_BN, k)
        left_B = np.isfinite(np.take_along_axis(scores_BN, best_BK, 1)).sum(1)
        return [ids[:left].tolist() for ids, left in zip(self._ids[best_BK], left_B, strict=True)]


def popularity(known: Interactions, *, live: Collection[str] | None = None, newest: float = 1.0) -> Baseline:
    """The items that most users liked.

    Args:
        known: The training interactions.
        live: The items that may be listed. None: all.
        newest: Only this share of the interactions counts, the newest ones. Below 1, it is popularity of late.
    """
    order = np.argsort(known.pair_times, kind="stable")[-max(1, round(newest * len(known.pair_times))) :]
    counts_N = np.bincount(known.pair_items[order], minlength=len(known.ids)).astype(np.float64)
    name = "popularity" if newest >= 1 else "popularity_recent"
    return Baseline(name, known.ids, lambda x: np.tile(counts_N, (x.shape[0], 1)), live, 4 * len(counts_N))


def itemknn(
    known: Interactions, *, live: Collection[str] | None = None, shrinkage: float = 5.0, neighbours: int = 200
) -> Baseline:
    """Item-based neighbours with shrunk cosines: `recdistill.linear.itemknn`."""
    model = linear.itemknn(known.matrix(), shrinkage=shrinkage, neighbours=neighbours)
    return Baseline("itemknn", known.ids, model, live, model.size)


def ease(known: Interactions, *, live: Collection[str] | None = None, l2: float = 500.0) -> Baseline:
    """The linear item-item model of least squares: `recdistill.linear.ease`."""
    model = linear.ease(known.matrix(), l2)
    return Baseline("ease", known.ids, model, live, model.size)


def baselines(examples: Iterable[Example] | Interactions, *, live: Collection[str] | None = None) -> list[Contender]:
    """Popularity over all interactions and over the newest tenth, ItemKNN and EASE, fitted to the examples.

    The defaults of ItemKNN and EASE come from a search: they were best on the validation part of MovieLens 100K, split
    by time.

    Args:
        examples: The training part, or what `read_interactions` made of it. Scores of the teacher are not used.
        live: The items that may be listed. None: all.

    Raises:
        DataError: The examples hold no interaction at all.
    """
    known = examples if isinstance(examples, Interactions) else read_interactions(examples)
    return [
        popularity(known, live=live),
        popularity(known, live=live, newest=0.1),
        itemknn(known, live=live),
        ease(known, live=live),
    ]

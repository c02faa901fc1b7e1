"""Who liked what: the distinct (user, item) pairs of examples, as a matrix for linear rankers.

A user likes the items in the histories of the user's examples, and the items with a positive label. An impression
without a user counts as a separate user. Teacher scores are not used.

Example:
    >>> from recdistill.records import Candidate, Event, Impression, Ranking
    >>> asked = Impression("i", 9, user="u", history=(Event("a", 1),), candidates=(Candidate("b"), Candidate("c")))
    >>> seen = Example(Ranking(asked, "", "", "rank", (0.0, 0.0), (False, False)), (1.0, 0.0), "closed")
    >>> known = read_interactions([seen])
    >>> known.ids, known.matrix().toarray().tolist()
    (['a', 'b'], [[1.0, 1.0]])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.errors import DataError
from recdistill.records import Example


@dataclass(frozen=True)
class Interactions:
    """Who liked what: distinct (user, item) pairs with the newest time of each.

    Items are numbered by falling popularity, equal counts by first appearance. The three arrays have one entry for
    each pair.
    """

    ids: list[str]
    pair_users: NDArray[np.int64]
    pair_items: NDArray[np.int64]
    pair_times: NDArray[np.int64]
    users: int

    def matrix(self) -> Any:
        """The pairs as a scipy CSR matrix of ones, users × items."""
        from scipy import sparse

        shape = (self.users, len(self.ids))
        return sparse.csr_matrix((np.ones(len(self.pair_users)), (self.pair_users, self.pair_items)), shape=shape)


def read_interactions(examples: Iterable[Example]) -> Interactions:
    """Collects the distinct (user, item) pairs of the examples, in one pass.

    Raises:
        DataError: The examples hold no interaction at all.
    """
    known = collect(examples)
    if not known.ids:
        raise DataError("the training examples hold neither a history nor a positive label: baselines need either")
    return known


def collect(examples: Iterable[Example]) -> Interactions:
    """As `read_interactions`, but the answer may be empty."""
    liked: dict[str, dict[str, int]] = {}
    for example in examples:
        impression = example.ranking.impression
        # A prefix that no user id can have: ids are never empty.
        mine = liked.setdefault(f"u{impression.user}" if impression.user else f"i{impression.id}", {})
        for event in impression.history:
            if event.time_us >= mine.get(event.item, -1):
                mine[event.item] = event.time_us
        for candidate, label in zip(impression.candidates, example.labels, strict=True):
            if label > 0:
                mine[candidate.item] = impression.time_us
    counts: dict[str, int] = {}
    for mine in liked.values():
        for item in mine:
            counts[item] = counts.get(item, 0) + 1
    ids = sorted(counts, key=lambda item: -counts[item])  # stable: equal counts stay in order of appearance
    number = {item: n for n, item in enumerate(ids)}
    pairs = [(u, number[item], time) for u, mine in enumerate(liked.values()) for item, time in mine.items()]
    table = np.array(pairs, np.int64).reshape(-1, 3)
    return Interactions(
        ids=ids, pair_users=table[:, 0], pair_items=table[:, 1], pair_times=table[:, 2], users=len(liked)
    )

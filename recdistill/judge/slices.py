"""Parts of the held-out lists that an average hides: new and heavy users, popular, rare and new items.

A slice of users keeps whole lists. A slice of items keeps the lists that have a relevant item of its kind, and of their
relevant items only those.

It knows nothing of contenders or metrics.

Example:
    >>> import numpy as np
    >>> part = user_slices(np.array([0, 5, 6, 60]))[0]
    >>> part.name, part.lists_B.tolist()
    ('new users', [True, True, False, False])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEW_USER_EVENTS = 5
HEAVY_USER_EVENTS = 30
HEAD_SHARE = 0.5


@dataclass(frozen=True)
class Slice:
    """Some of the held-out lists.

    Args:
        name: What the report calls it.
        meaning: In words, with its bounds.
        lists_B: Which lists, bool `[B]`.
        relevant_BP: Which of their relevant items count, bool `[B, P]`; all when None.
    """

    name: str
    meaning: str
    lists_B: NDArray[np.bool_]
    relevant_BP: NDArray[np.bool_] | None = None


def user_slices(events_B: NDArray[np.int64]) -> list[Slice]:
    """New and heavy users, by the number of events in the request's history."""
    return [
        Slice("new users", f"at most {NEW_USER_EVENTS} events of history", events_B <= NEW_USER_EVENTS),
        Slice("heavy users", f"at least {HEAVY_USER_EVENTS} events of history", events_B >= HEAVY_USER_EVENTS),
    ]


def item_slices(relevant_BP: NDArray[np.int64], counts_N: NDArray[np.int64]) -> list[Slice]:
    """Popular, rare and new items, by how often the training part has them.

    Args:
        relevant_BP: Item numbers, -1 where there is none.
        counts_N: Interactions of each item in the training part.
    """
    order = np.argsort(-counts_N, kind="stable")
    before = np.cumsum(counts_N[order]) - counts_N[order]
    head_N = np.zeros(len(counts_N), bool)
    head_N[order] = before < HEAD_SHARE * counts_N.sum()
    head_N &= counts_N > 0
    kinds = [
        ("popular items", f"the most liked items that make up {HEAD_SHARE:.0%} of the training interactions", head_N),
        ("rare items", "items of the other half that the training part has", ~head_N & (counts_N > 0)),
        ("new items", "items that the training part does not have", counts_N == 0),
    ]
    found = []
    for name, meaning, kind_N in kinds:
        counted_BP = (relevant_BP >= 0) & kind_N[relevant_BP]
        found.append(Slice(name, meaning, counted_BP.any(1), counted_BP))
    return found

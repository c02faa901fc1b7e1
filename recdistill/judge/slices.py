"""Slices of the held-out lists: new and heavy users, popular, rare and new items. An average would hide them.

A slice of users keeps whole lists. A slice of items keeps the lists with a relevant item of its kind, and counts only
the relevant items of that kind.

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
        name: Its name in the report.
        meaning: Its meaning in words, with its bounds.
        lists_B: Which lists it has, bool `[B]`.
        relevant_BP: Which of their relevant items count, bool `[B, P]`. None: all of them.
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
    """Popular, rare and new items, by how often they occur in the training part.

    Args:
        relevant_BP: Item numbers, -1 where there is none.
        counts_N: Interactions of each item in the training part.
    """
    # Items are taken in order of popularity. An item is popular while the items before it make up less than half of all
    # interactions. `before` counts the interactions of these earlier items.
    order = np.argsort(-counts_N, kind="stable")
    before = np.cumsum(counts_N[order]) - counts_N[order]
    head_N = np.zeros(len(counts_N), bool)
    head_N[order] = before < HEAD_SHARE * counts_N.sum()
    head_N &= counts_N > 0
    kinds = [
        ("popular items", f"the most liked items that make up {HEAD_SHARE:.0%} of the training interactions", head_N),
        ("rare items", "all other items that occur in the training part", ~head_N & (counts_N > 0)),
        ("new items", "items that do not occur in the training part", counts_N == 0),
    ]
    found = []
    for name, meaning, kind_N in kinds:
        # -1 looks up the last item here, but the first condition makes it False.
        counted_BP = (relevant_BP >= 0) & kind_N[relevant_BP]
        found.append(Slice(name, meaning, counted_BP.any(1), counted_BP))
    return found

"""Slices of the held-out lists: new and heavy users; popular, torso, rare and new items. An average would hide them.

A slice is a part of the lists. A slice of users has whole lists. A slice of items has the lists with a relevant item of
its kind, and only the relevant items of that kind count. A person can name fields, and each gives more slices:
`context.NAME`, `item.NAME`, `time`.

It knows nothing of contenders or metrics.

Example:
    >>> import numpy as np
    >>> part = user_slices(np.array([0, 5, 6, 60]))[0]
    >>> part.name, part.lists_B.tolist()
    ('new users', [True, True, False, False])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recdistill.errors import UsageError
from recdistill.records import Impression, Item

NEW_USER_EVENTS = 5
HEAVY_USER_EVENTS = 30
HEAD_SHARE = 0.5
TORSO_SHARE = 0.3

VALUES: Final = 10
"""At most so many values of one field get a slice, the most frequent ones."""

LEAST: Final = 20
"""A value gets a slice only if at least so many lists have it."""

_QUARTER: Final = 6
_HOUR_US: Final = 3_600_000_000


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


def item_slices(relevant_BP: NDArray[np.int64], counts_N: NDArray[np.float64]) -> list[Slice]:
    """Head, torso and tail of the items, and new items, by how often they were liked in the training part.

    Args:
        relevant_BP: Item numbers, -1 where there is none.
        counts_N: How often each item was liked in the training part.
    """
    # Items are taken in order of popularity. An item is popular while the items before it make up less than half of all
    # interactions. `before` counts the interactions of these earlier items.
    order = np.argsort(-counts_N, kind="stable")
    before_N = np.zeros(len(counts_N))
    before_N[order] = np.cumsum(counts_N[order]) - counts_N[order]
    share_N, liked_N = before_N / max(counts_N.sum(), 1e-12), counts_N > 0
    head_N, both_N = liked_N & (share_N < HEAD_SHARE), liked_N & (share_N < HEAD_SHARE + TORSO_SHARE)
    kinds = [
        ("popular items", f"the most liked items that make up {HEAD_SHARE:.0%} of the training interactions", head_N),
        ("torso items", f"the next ones, which make up the next {TORSO_SHARE:.0%} of them", both_N & ~head_N),
        ("rare items", "all other items that were liked in the training part", liked_N & ~both_N),
        ("new items", "items that nobody liked in the training part", ~liked_N),
    ]
    found = []
    for name, meaning, kind_N in kinds:
        # -1 looks up the last item here, but the first condition makes it False.
        counted_BP = (relevant_BP >= 0) & kind_N[relevant_BP]
        found.append(Slice(name, meaning, counted_BP.any(1), counted_BP))
    return found


def field_slices(
    fields: Sequence[str],
    requests: Sequence[Impression],
    relevant_BP: NDArray[np.int64],
    items: Mapping[int, Item],
) -> list[Slice]:
    """Slices by fields that a person named.

    Args:
        fields: `context.NAME`: lists by a value of their context. `item.NAME`: relevant items by a value of an
            attribute. `time`: lists by the quarter of the day, in UTC.
        requests: The requests of the lists.
        relevant_BP: Item numbers, -1 where there is none.
        items: The items of these numbers that are known.

    Raises:
        UsageError: A field has another form.
    """
    found: list[Slice] = []
    for field in fields:
        kind, _, name = field.partition(".")
        if field == "time":
            found += _times(requests)
        elif kind == "context" and name:
            found += _contexts(name, requests)
        elif kind == "item" and name:
            found += _attributes(name, relevant_BP, items)
        else:
            raise UsageError(f"judge.slices: {field!r} is no slice; use context.NAME, item.NAME or time")
    return found


def texts(value: Any) -> set[str]:
    """The values of a field as text. A list gives several values, and None gives no value."""
    if value is None:
        return set()
    several = value if isinstance(value, list | tuple) else [value]
    return {str(one).lower() if isinstance(one, bool) else str(one) for one in several}


def _times(requests: Sequence[Impression]) -> list[Slice]:
    quarters_B: NDArray[np.int64] = np.array([request.time_us // _HOUR_US % 24 // _QUARTER for request in requests])
    return [
        Slice(
            f"time {begin:02}-{begin + _QUARTER:02}",
            f"lists from {begin:02}:00 to {begin + _QUARTER:02}:00 UTC",
            np.isin(quarters_B, [begin // _QUARTER]),
        )
        for begin in range(0, 24, _QUARTER)
    ]


def _contexts(name: str, requests: Sequence[Impression]) -> list[Slice]:
    values = [texts(request.context.get(name)) for request in requests]
    return [
        Slice(
            f"context.{name}={value}", f"lists whose context has {name} {value}", np.array([value in v for v in values])
        )
        for value in _frequent(values)
    ]


def _attributes(name: str, relevant_BP: NDArray[np.int64], items: Mapping[int, Item]) -> list[Slice]:
    values = {n: texts(items[n].attributes.get(name)) for n in np.unique(relevant_BP).tolist() if n in items}
    lists = [set().union(*(values.get(n, set()) for n in row)) for row in relevant_BP.tolist()]
    found = []
    for value in _frequent(lists):
        having = [n for n, own in values.items() if value in own]
        counted_BP: NDArray[np.bool_] = (relevant_BP >= 0) & np.isin(relevant_BP, having)
        found.append(
            Slice(f"item.{name}={value}", f"items with {name} {value}", np.any(counted_BP, axis=1), counted_BP)
        )
    return found


def _frequent(values: Sequence[set[str]]) -> list[str]:
    counts = Counter(value for own in values for value in sorted(own))
    return [value for value, count in counts.most_common(VALUES) if count >= LEAST]

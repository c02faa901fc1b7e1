"""Popularity up to the moment of each list: how many liked an item before that list was shown.

On a stream of news, the items of the training part are old when a list is judged. A count that stops with the training
part would be too weak a rival. So this count goes on: it has the likes of the training part, and those of the judged
lists that were shown earlier. A click counts from the time of its list, a little before it was made. This can only make
the rival stronger, never weaker.

It knows nothing of bundles, teachers or metrics.

Example:
    >>> lists = [(5, ["a", "b"]), (7, ["a", "b"])]
    >>> [scores.tolist() for scores in counts_up_to(lists, [(1, "a"), (6, "b"), (6, "b"), (7, "a")], 1.0)]
    [[1.0, 0.0], [1.0, 2.0]]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recdistill.linear import Interactions
from recdistill.records import Example


def likes_of(known: Interactions, judged: Iterable[Example]) -> list[tuple[int, str]]:
    """Time and item of each like, of the training part and of the judged lists."""
    likes = [(time, known.ids[item]) for time, item in zip(known.pair_times.tolist(), known.pair_items, strict=True)]
    return likes + likes_of_judged(judged)


def likes_of_judged(judged: Iterable[Example]) -> list[tuple[int, str]]:
    """Time and item of each like of the judged lists."""
    likes = []
    for example in judged:
        shown = example.ranking.impression
        for candidate, label in zip(shown.candidates, example.labels, strict=True):
            if label > 0:
                likes.append((shown.time_us, candidate.item))
    return likes


def counts_up_to(
    lists: Sequence[tuple[int, Sequence[str]]], likes: Iterable[tuple[int, str]], newest: float
) -> list[NDArray[np.float64]]:
    """For each list, how often each of its items was liked before.

    Args:
        lists: Time and candidates of each list, in any order.
        likes: Time and item of each like, in any order.
        newest: Only this share of the likes before the list counts, the newest ones. Below 1, it is popularity of late.
    """
    ordered = sorted(likes, key=lambda like: like[0])
    counts: Counter[str] = Counter()
    begin = end = 0
    out: list[NDArray[np.float64]] = [np.zeros(0)] * len(lists)
    for n in sorted(range(len(lists)), key=lambda n: lists[n][0]):
        time_us, items = lists[n]
        while end < len(ordered) and ordered[end][0] < time_us:
            counts[ordered[end][1]] += 1
            end += 1
        while begin < end - max(1, round(newest * end)):
            counts[ordered[begin][1]] -= 1
            begin += 1
        out[n] = np.array([counts[item] for item in items], np.float64)
    return out

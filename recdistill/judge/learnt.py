"""Counts likes in the lists that a student learnt from: from the examples, or from what was counted while it learnt.

Bundles have these counts beside them (`recdistill.linear.Tally`), so the lists need not be read again. A bundle of an
older version of recdistill has no counts, so its lists are read.

It knows nothing of bundles, teachers or metrics.

Example:
    >>> tally = Tally()
    >>> tally.learn([([], ["a"]), ([], ["b"]), ([], ["b"])])
    >>> learnt(tally).liked(["a", "b", "c"]).tolist()
    [1.0, 2.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recdistill.judge.upto import counts_up_to, likes_of, likes_of_judged
from recdistill.linear import Interactions, Tally, collect
from recdistill.records import Example

Floats = NDArray[np.float64]
Train = Iterable[Example] | Interactions | Tally

RECENT = 0.1
"""Popularity of late counts only this share of the likes, the newest ones."""


class Learnt(Protocol):
    """What was liked in the lists that were learnt."""

    def liked(self, ids: Sequence[str]) -> Floats:
        """How often each item was liked, `[N]`."""

    def up_to(self, lists: Sequence[tuple[int, Sequence[str]]], judged: Sequence[Example]) -> dict[str, list[Floats]]:
        """Popularity, and popularity of late, of each list's candidates at the time when the list was shown.

        Args:
            lists: Time and candidates of each list.
            judged: The lists that are judged. Likes in earlier ones count for later ones.
        """


class _FromExamples:
    def __init__(self, known: Interactions) -> None:
        self._known = known
        counts = np.bincount(known.pair_items, minlength=len(known.ids)).tolist()
        self._counts = dict(zip(known.ids, counts, strict=True))

    def liked(self, ids: Sequence[str]) -> Floats:
        return np.array([self._counts.get(item, 0) for item in ids], np.float64)

    def up_to(self, lists: Sequence[tuple[int, Sequence[str]]], judged: Sequence[Example]) -> dict[str, list[Floats]]:
        likes = likes_of(self._known, judged)
        return {
            name: counts_up_to(lists, likes, newest)
            for name, newest in {"popularity": 1.0, "popularity_recent": RECENT}.items()
        }


class _FromTally:
    """The counts end where the student stopped learning. For an earlier list, they also hold likes that came later."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def liked(self, ids: Sequence[str]) -> Floats:
        return self._tally.liked(ids)

    def up_to(self, lists: Sequence[tuple[int, Sequence[str]]], judged: Sequence[Example]) -> dict[str, list[Floats]]:
        since = counts_up_to(lists, likes_of_judged(judged), 1.0)
        both = {"popularity": self._tally.liked, "popularity_recent": self._tally.lately}
        return {
            name: [of(items) + more for (_, items), more in zip(lists, since, strict=True)] for name, of in both.items()
        }


def learnt(train: Train) -> Learnt:
    """What was liked, from any of the three forms in which the training lists come."""
    if isinstance(train, Tally):
        return _FromTally(train)
    return _FromExamples(train if isinstance(train, Interactions) else collect(train))

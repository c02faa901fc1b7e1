"""Two cheap rankers that learn from the labels of the stream as they come: popularity of late, and ItemKNN.

Both count labelled lists. A list of long ago counts less: after `half_life` labelled lists it counts half.

Popularity of an item is n, the lists in which it was liked. ItemKNN holds, for an item h of histories and a liked item
p, how many lists have both: c. With a, the lists whose history has h, the neighbourhood of the two is
c / (√(a n) + shrinkage). This is the cosine of two sets of lists, shrunk, as `recdistill.linear.itemknn` has it between
items of users. The score of a candidate is the sum over the history.

What is kept has a bound: when there are more than `MOST` pairs or items, the weaker half of them goes.

It knows nothing of records, models or logs.

Example:
    >>> rivals = Rivals()
    >>> for history, liked in ((["a"], ["b"]), (["a"], ["b"]), (["a"], ["c"]), (["d"], ["c"]), ([], ["c"])):
    ...     rivals.learn(history, liked, half_life=1000)
    >>> popular, near = rivals.popularity(["b", "c", "z"]), rivals.neighbourhood(["a"], ["b", "c", "z"])
    >>> popular.round(1).tolist(), int(near.argmax()), float(near[2])
    ([2.0, 3.0, 0.0], 0, 0.0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

MOST: Final = 100_000
"""So many pairs, and so many items, are kept at most."""

EVENTS: Final = 50
"""The newest events of a history that count."""

SHRINKAGE: Final = 5.0

_HIGHEST: Final = 1e100

Floats = npt.NDArray[np.float32]


class Rivals(Struct):
    """What both have counted.

    Attributes:
        unit: What a list counts now. It grows, so that no older count has to be changed.
        liked: n of each item.
        seen: a of each item.
        pairs: c, by item of the history and liked item.
        size: How many pairs there are.
    """

    unit: float = 1.0
    liked: dict[str, float] = {}
    seen: dict[str, float] = {}
    pairs: dict[str, dict[str, float]] = {}
    size: int = 0

    def learn(self, history: Sequence[str], liked: Sequence[str], *, half_life: float) -> None:
        """Learns from one labelled list.

        Args:
            history: Items of the history, oldest first.
            liked: The candidates that were liked.
            half_life: Labelled lists after which a list counts half.
        """
        self.unit *= 2.0 ** (1.0 / half_life)
        if self.unit > _HIGHEST:
            self._rescale()
        unit, chosen = self.unit, dict.fromkeys(liked)
        for item in chosen:
            self.liked[item] = self.liked.get(item, 0.0) + unit
        for event in dict.fromkeys(history[-EVENTS:]):
            self.seen[event] = self.seen.get(event, 0.0) + unit
            near = self.pairs.setdefault(event, {})
            before = len(near)
            for item in chosen:
                if item != event:
                    near[item] = near.get(item, 0.0) + unit
            self.size += len(near) - before
            if not near:
                del self.pairs[event]
        if self.size > MOST:
            self._shed()
        self.liked, self.seen = _strongest(self.liked), _strongest(self.seen)

    def popularity(self, candidates: Sequence[str]) -> Floats:
        """n of each candidate, f32 `[L]`."""
        return np.array([self.liked.get(item, 0.0) / self.unit for item in candidates], np.float32)

    def neighbourhood(self, history: Sequence[str], candidates: Sequence[str]) -> Floats:
        """ItemKNN's score of each candidate, f32 `[L]`; 0 where no event of the history is near."""
        unit = self.unit
        rows = [
            (self.pairs[event], self.seen.get(event, 0.0) / unit)
            for event in dict.fromkeys(history[-EVENTS:])
            if event in self.pairs
        ]
        scores = []
        for item in candidates:
            n = self.liked.get(item, 0.0) / unit
            found = ((near.get(item), a) for near, a in rows)
            scores.append(sum(c / unit / (math.sqrt(a * n) + SHRINKAGE) for c, a in found if c is not None))
        return np.array(scores, np.float32)

    def _rescale(self) -> None:
        for counts in (self.liked, self.seen, *self.pairs.values()):
            for item in counts:
                counts[item] /= self.unit
        self.unit = 1.0

    def _shed(self) -> None:
        """Lets the weaker half of the pairs go."""
        every = [(weight, event, item) for event, near in self.pairs.items() for item, weight in near.items()]
        every.sort(reverse=True)
        self.pairs = {}
        for weight, event, item in every[: MOST // 2]:
            self.pairs.setdefault(event, {})[item] = weight
        self.size = min(len(every), MOST // 2)


def _strongest(counts: dict[str, float]) -> dict[str, float]:
    if len(counts) <= MOST:
        return counts
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: MOST // 2])

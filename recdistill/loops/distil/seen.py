"""What a student has seen of the stream, as a bundle tells it: teachers, popular items, the last requests.

Popularity is counted in the first pass alone. A recent positive counts more than an old one: after `HALF_LIFE`
examples it counts half as much.

It knows nothing of positions or students.

Example:
    >>> from recdistill.records import Candidate, Example, Ranking, encode, read_columns
    >>> asked = Impression("r", 9, candidates=(Candidate("a"), Candidate("b")))
    >>> seen = Seen()
    >>> example = Example(Ranking(asked, "t", "1", "logit", (1.0, 0.0), (True, True)), (0.0, 1.0), "closed")
    >>> seen.take(read_columns(Example, [encode(example)])[0])
    >>> seen.teachers, [item for item, _ in seen.most_popular(10)]
    ({'t@1': 1}, ['b'])
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from recdistill.bundle import golden
from recdistill.records import Columns, Impression

HALF_LIFE: Final = 20_000
"""Examples after which a positive counts half as much for the popular list."""


class Seen(msgspec.Struct):
    """What was seen so far.

    Attributes:
        examples: How many, in the first pass.
        teachers: How many lists of each teacher, `id@version`.
        popular: Weight of each item that was ever taken.
        popular_unit: Weight of a positive now.
        golden: The last requests, without users and candidates.
    """

    examples: int = 0
    teachers: dict[str, int] = {}
    popular: dict[str, float] = {}
    popular_unit: float = 1.0
    golden: list[Impression] = []

    def take(self, examples: Columns, *, again: bool = False) -> None:
        """Sees the examples of one step; `again`: of a later pass, which counts for nothing but the last requests."""
        count = len(examples)
        self.golden = [examples.request(row) for row in range(max(0, count - golden.COUNT), count)]
        if again:
            return
        self.examples += count
        # Older positives count for less: instead of shrinking every item's count, what is added grows.
        self.popular_unit *= 2.0 ** (count / HALF_LIFE)
        if self.popular_unit > 1e100:
            self.popular = {item: weight / 1e100 for item, weight in self.popular.items() if weight > 1e80}
            self.popular_unit /= 1e100
        for teacher, state in zip(examples.teachers, examples.states, strict=True):
            # A list whose labels follow alone was counted with its scores.
            self.teachers[teacher] = self.teachers.get(teacher, 0) + int(state != "labels")
        for place in np.flatnonzero(examples.labels_C).tolist():
            item = examples.items.text(place)
            self.popular[item] = self.popular.get(item, 0.0) + self.popular_unit

    def most_popular(self, count: int) -> list[tuple[str, float]]:
        """The items with the largest weights, largest first, and their weights."""
        return sorted(self.popular.items(), key=lambda pair: (-pair[1], pair[0]))[:count]

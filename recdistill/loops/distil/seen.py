"""What a student has seen of the stream, as a bundle tells it: teachers, popular items, the last requests.

Popularity is counted in the first pass alone. A recent positive counts more than an old one: after `HALF_LIFE`
examples it counts half as much.

It knows nothing of positions or students.

Example:
    >>> from recdistill.records import Candidate, Ranking
    >>> asked = Impression("r", 9, candidates=(Candidate("a"), Candidate("b")))
    >>> seen = Seen()
    >>> seen.take([Example(Ranking(asked, "t", "1", "logit", (1.0, 0.0), (True, True)), (0.0, 1.0), "closed")])
    >>> seen.teachers, [item for item, _ in seen.most_popular(10)]
    ({'t@1': 1}, ['b'])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final

import msgspec

from recdistill.bundle import golden
from recdistill.records import Example, Impression

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

    def take(self, examples: Sequence[Example], *, again: bool = False) -> None:
        """Sees the examples of one step; `again`: of a later pass, which counts for nothing but the last requests."""
        self.golden = [
            msgspec.structs.replace(example.ranking.impression, candidates=(), exclude=(), user=None)
            for example in examples[-golden.COUNT :]
        ]
        if again:
            return
        self.examples += len(examples)
        # Older positives count for less: instead of shrinking every item's count, what is added grows.
        self.popular_unit *= 2.0 ** (len(examples) / HALF_LIFE)
        if self.popular_unit > 1e100:
            self.popular = {item: weight / 1e100 for item, weight in self.popular.items() if weight > 1e80}
            self.popular_unit /= 1e100
        for example in examples:
            ranking = example.ranking
            # A list whose labels follow alone was counted with its scores.
            once = int(example.label_state != "labels")
            teacher = f"{ranking.teacher_id}@{ranking.teacher_version}"
            self.teachers[teacher] = self.teachers.get(teacher, 0) + once
            for candidate in compress(ranking.impression.candidates, example.labels):  # those whose label is not 0
                self.popular[candidate.item] = self.popular.get(candidate.item, 0.0) + self.popular_unit

    def most_popular(self, count: int) -> list[tuple[str, float]]:
        """The items with the largest weights, largest first, and their weights."""
        return sorted(self.popular.items(), key=lambda pair: (-pair[1], pair[0]))[:count]

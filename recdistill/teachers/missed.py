"""Why a teacher left candidates without a score, counted by reason.

The scorer counts the scores that are missing. This says why, with the most frequent reason and an example.

It knows nothing of any kind of teacher.

Example:
    >>> missed = Missed()
    >>> missed.add("candidates have no text", "sku-1")
    >>> missed.add("candidates have no text", "sku-2")
    >>> missed.why()
    "2 candidates have no text, for instance 'sku-1'"
    >>> missed.why()
    ''
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recdistill.records import Candidate


class Missed:
    """Counts reasons until somebody asks."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Counts a reason; it follows a number in a sentence.

        Args:
            reason: "candidates have no text".
            example: Id of one that has it.
            count: How many have it.
        """
        self._counts[reason] += count
        self._examples.setdefault(reason, example)

    def unknown(self, candidates: Sequence[Candidate], known_L: npt.NDArray[np.bool_], reason: str) -> None:
        """Counts the candidates of a list that a teacher does not know."""
        if not known_L.all():
            self.add(reason, candidates[int(np.argmin(known_L))].item, int((~known_L).sum()))

    def why(self) -> str:
        """The most frequent reason since the last call; "" when there was none."""
        if not self._counts:
            return ""
        [(reason, count)] = self._counts.most_common(1)
        said = f"{count:,} {reason}, for instance {self._examples[reason][:60]!r}"
        self._counts.clear()
        self._examples.clear()
        return said

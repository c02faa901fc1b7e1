"""The trial of a teacher that the student does not learn from: what is counted, and how much is enough.

A teacher on probation or in quarantine is still compared with the student and with labels, over a window of lists. It
passes when it agrees with labels. It also passes when it agrees with the student, and labels are not against it. The
bar is a share of the agreement that the teacher had before. For a new teacher it is a share of what the best of the
others have.

It knows nothing of what follows from a verdict.

Example:
    >>> bar(Figure(), [Figure(weight=500, total=300, squares=200)], 0.0, least=0.5)  # half of the others' 0.6
    0.3
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from msgspec import Struct, field

from recdistill.watch.figures import Figure, verdict, watched
from recdistill.watch.observation import Seen
from recdistill.watch.witnesses import CHANCE_ORDER, CHANCE_PAIRS

LEAST_LIFT = 0.02
"""The least lift over chance that is asked for, in rank correlation or in share of pairs."""


class Window(Struct):
    """What was seen of a teacher on trial, since list `start`."""

    start: int = 0
    lists: int = 0
    order: Figure = field(default_factory=Figure)
    labels: Figure = field(default_factory=Figure)

    def add(self, seen: Seen) -> None:
        """Adds a batch. All lists of a window count the same."""
        if self.lists == 0:
            self.start = int(seen.at_B[0])
        self.lists += seen.lists
        for figure, values_B in ((self.order, seen.order), (self.labels, seen.pairs)):
            figure.add(values_B[np.isfinite(values_B)], math.inf)

    def verdict(self, order_bar: float, labels_bar: float) -> Literal["passed", "failed", "open"]:
        """Whether the teacher surely agrees enough (passed), surely not (failed), or it is not clear yet (open)."""
        for_order, against_order = verdict(self.order, CHANCE_ORDER, order_bar)
        for_labels, against_labels = verdict(self.labels, CHANCE_PAIRS, labels_bar)
        if for_labels or (for_order and not against_labels):
            return "passed"
        return "failed" if against_order or against_labels else "open"


def bar(own: Figure, others: Iterable[Figure], chance: float, *, least: float, kept: float = 1.0) -> float:
    """The lift over chance that a teacher must have.

    Args:
        own: The teacher's agreement before.
        others: The agreement of proven teachers. They count where `own` is no reference.
        chance: The agreement of a random order.
        least: Share of the former lift that is asked for.
        kept: Share of the former lift that can still be expected.
    """
    if watched(own, chance):
        lift = own.mean - chance
    else:
        lift = max((other.mean - chance for other in others if watched(other, chance)), default=0.0)
    return max(LEAST_LIFT, least * (kept * lift))

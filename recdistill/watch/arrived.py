"""A batch of the stream as it arrived, whoever scored it: what the detectors of drift look at.

It knows nothing of what came before, or of what is usual.

Example:
    >>> none, some = np.zeros((2, 0), np.int32), np.array([[3, 4, -1], [5, 6, 7]], np.int32)
    >>> real, asked = some >= 0, Requests(none, none, none, {}, np.zeros(2, np.int32))
    >>> labels, yes = np.array([[0, 1, 0], [0, 0, 0]], np.float32), np.ones(2, bool)
    >>> lists = Lists(asked, some, real, 0 * labels, real, labels, yes, np.ones(2, np.float32), None, yes)
    >>> arrived = Arrived(first=10, lists=lists, student_BL=labels)
    >>> arrived.at.tolist(), arrived.lengths.tolist(), arrived.taken.tolist(), arrived.positions.tolist()
    ([10, 11], [2, 3], [1, 0], [1, -1])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recdistill.features import Lists, Requests
from recdistill.watch.witnesses import Array, Where, rank_correlation

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """The lists of one batch, in the order of the stream.

    A list whose labels come later is seen twice. The first time brings its inputs and its scores, the second time its
    labels.
    """

    first: int
    """Number of the first list, counted over the whole stream."""
    lists: Lists
    student_BL: npt.NDArray[np.floating]
    """The student's scores of the candidates, before it learns from these lists."""
    times_B: Ints | None = None
    """When each list was shown, in microseconds; 0 where that is not known. None: of none it is."""
    numbers: frozenset[str] = frozenset()
    """The fields of the context that are numbers: their second column says whether there is one.

    A vector of two numbers looks the same."""

    @cached_property
    def at(self) -> Ints:
        """Number of each list."""
        return self.first + np.arange(len(self.lists.where_BL), dtype=np.int64)

    @property
    def new(self) -> Where:
        """Which lists are seen for the first time."""
        return self.lists.soft_B

    @property
    def requests(self) -> Requests:
        """What was asked."""
        return self.lists.requests

    @cached_property
    def lengths(self) -> Ints:
        """Candidates of each list that the catalogue knows."""
        return np.asarray(self.lists.where_BL.sum(1), np.int64)

    @cached_property
    def taken(self) -> Ints:
        """How many candidates of each list were taken; it says nothing where labels are not known."""
        return np.asarray(((self.lists.labels_BL > 0) & self.lists.where_BL).sum(1), np.int64)

    @cached_property
    def positions(self) -> Ints:
        """Place of the first candidate that was taken, from 0; −1 where none was."""
        taken_BL = (self.lists.labels_BL > 0) & self.lists.where_BL
        return np.where(taken_BL.any(1), taken_BL.argmax(1), -1).astype(np.int64)

    @cached_property
    def agreement(self) -> Array:
        """Rank correlation of teacher and student, f64 `[B]`; NaN where there is none."""
        sane_B = self.new & np.isfinite(self.student_BL).all(1)
        return rank_correlation(self.lists.teacher_scores_BL, self.student_BL, self.lists.scored_BL & sane_B[:, None])

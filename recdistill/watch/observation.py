"""What the watch sees: a batch of lists before the student learns it, and the lists of one teacher in it.

`Observation` is the batch as it comes. `Observation.of` takes the lists of one teacher out of it, as a `Seen`. A
detector gets a `Seen`. It holds the arrays, and computes each statistic once, when it is first needed.

It knows nothing of what was seen before, or of who is believed.

Example:
    >>> real = np.ones((2, 3), bool)
    >>> batch = Observation(
    ...     teachers=["a@1", "b@1"], scores_BL=[[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], scored_BL=real,
    ...     labels_BL=[[1, 0, 0], [0, 0, 0]], labelled_BL=real, student_BL=[[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]],
    ... )
    >>> seen = batch.of("b@1", first=10)
    >>> seen.at_B.tolist(), seen.order.tolist(), seen.pairs.tolist()
    ([11], [-1.0], [nan])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recdistill.watch.witnesses import Array, Where, pair_auc, place_and_spread, rank_correlation


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The lists of one teacher in one batch, oldest first; each has at least two scores."""

    at_B: npt.NDArray[np.int64]
    """Number of each list, counted over the whole stream."""
    scores_BL: Array
    """As they came."""
    scored_BL: Where
    labels_BL: npt.NDArray[np.float64]
    witnessed_BL: Where
    """Where there is a score, and it is known whether the user took the item."""
    student_BL: npt.NDArray[np.floating]
    units_BL: Array
    """The scores in common units."""
    agreement_B: Array
    """How well the teacher agreed with its own first answers when it was last asked again; NaN: it was not asked."""
    first_B: Where
    """Whether the scores are seen for the first time. A list whose labels come later is seen twice."""

    @property
    def lists(self) -> int:
        """How many lists are seen for the first time."""
        return int(self.first_B.sum())

    @cached_property
    def order(self) -> Array:
        """Rank correlation of each list with the student's scores, f64 `[B]`; NaN where there is none."""
        # A list is not compared where the student has a score that is not finite, or for a second time.
        sane_BL = self.scored_BL & (np.isfinite(self.student_BL).all(1) & self.first_B)[:, None]
        return rank_correlation(self.scores_BL, self.student_BL, sane_BL)

    @cached_property
    def pairs(self) -> Array:
        """Share of pairs (taken, not taken) in the right order, f64 `[B]`; NaN where there is no such pair."""
        return pair_auc(self.scores_BL, self.labels_BL, self.witnessed_BL)

    @cached_property
    def place_and_spread(self) -> tuple[Array, Array]:
        """Median of each list that is new, and the log of its mean distance from it, f64 `[lists]` each."""
        return place_and_spread(self.scores_BL[self.first_B], self.scored_BL[self.first_B])


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A batch of lists of any teachers, with the student's scores before it learns them."""

    teachers: Sequence[str]
    """The teacher of each list, `id@version`."""
    scores_BL: npt.ArrayLike
    """The scores as they came."""
    scored_BL: Where
    """Where there is a score."""
    labels_BL: npt.ArrayLike
    """Above 0 where the user took the item."""
    labelled_BL: Where
    """Where labels are known."""
    student_BL: npt.ArrayLike
    """The student's scores of the same candidates."""
    units_BL: npt.ArrayLike | None = None
    """The scores in common units; None where `scores_BL` are in these units."""
    agreement_B: npt.ArrayLike | None = None
    """How well each list's teacher agreed with its own first answers, NaN where nobody asked; None: nobody ever did."""
    first_B: Where | None = None
    """Whether the scores of a list are seen for the first time; None: all are. The others bring labels only."""

    @cached_property
    def names(self) -> npt.NDArray[np.str_]:
        """`teachers` as an array, `[B]`."""
        return np.asarray(self.teachers)

    @cached_property
    def judged(self) -> Where:
        """Which lists are new and have at least two scores, bool `[B]`. A list with fewer has no order."""
        judged_B = np.asarray(self.scored_BL.sum(1) >= 2)
        return judged_B if self.first_B is None else judged_B & self.first_B

    def of(self, teacher: str, first: int) -> Seen | None:
        """The lists of one teacher that have two scores or more; None where there is no such list.

        Args:
            teacher: Its name.
            first: Number of this batch's first list in the stream.
        """
        rows_B = np.flatnonzero((self.names == teacher) & (self.scored_BL.sum(1) >= 2))
        if not rows_B.size:
            return None
        first_B = np.ones(len(rows_B), bool) if self.first_B is None else self.first_B[rows_B]
        asked_B = np.full(len(rows_B), np.nan)
        if self.agreement_B is not None:
            asked_B = np.where(first_B, np.asarray(self.agreement_B, np.float64)[rows_B], np.nan)
        scores_BL = np.asarray(self.scores_BL, np.float64)[rows_B]
        return Seen(
            at_B=first + rows_B,
            scores_BL=scores_BL,
            scored_BL=self.scored_BL[rows_B],
            labels_BL=np.asarray(self.labels_BL)[rows_B],
            witnessed_BL=(self.scored_BL & self.labelled_BL)[rows_B],
            student_BL=np.asarray(self.student_BL)[rows_B],
            units_BL=scores_BL if self.units_BL is None else np.asarray(self.units_BL, np.float64)[rows_B],
            agreement_B=asked_B,
            first_B=first_B,
        )

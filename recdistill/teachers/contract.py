"""What a teacher is: anything that scores candidate lists.

A teacher has an id, a version and a scale. They are stored with each of its scores. It gets catalogue changes in log
order. It answers each impression with one score per candidate, or with the reason why it could not. It masks what it
cannot score; it never guesses.

This module knows nothing of any kind of teacher.

Example:
    >>> import numpy as np
    >>> Scores(np.array([0.5, 0.0], np.float32), np.array([True, False])).scored_L.tolist()
    [True, False]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recdistill.errors import TeacherError
from recdistill.limits import MAX_SCORE
from recdistill.records import Impression, Item, Scale

USER: Final = "user"
LOGGED_SCORE: Final = "logged_score"
"""Parts of a request that most teachers do not read; see `reads`."""


class Scores(NamedTuple):
    """A teacher's answer to one impression of L candidates."""

    values_L: npt.NDArray[np.float32]
    """Scores, shape [L]. Numbers where `scored_L` is false have no meaning."""
    scored_L: npt.NDArray[np.bool_]
    """Whether each score is real, shape [L]."""


def masked(scores: Scores) -> Scores:
    """The scores, with those masked that are no finite number or too large to learn from; masked ones are 0.

    Example:
        >>> masked(Scores(np.array([1.0, np.nan, 2e38], np.float32), np.ones(3, bool)))
        Scores(values_L=array([1., 0., 0.], dtype=float32), scored_L=array([ True, False, False]))
    """
    real_L = scores.scored_L & (np.abs(scores.values_L) <= MAX_SCORE)  # false for NaN too
    return Scores(np.where(real_L, scores.values_L, np.float32(0.0)), real_L)


def misfit(impression: Impression, scores: Scores) -> TeacherError | None:
    """Why a teacher's answer does not fit its list: its length is wrong. None if it fits."""
    length = len(impression.candidates)
    if scores.values_L.shape != (length,) or scores.scored_L.shape != (length,):
        return TeacherError(
            f"impression {impression.id}: {length} candidates, but scores of shape {scores.values_L.shape}"
        )
    return None


class Teacher(Protocol):
    """Scores candidate lists. A class with these methods is a teacher; it need not inherit."""

    @property
    def id(self) -> str:
        """Name of the teacher. Scores of two ids are never compared without making them comparable."""
        ...

    @property
    def version(self) -> str:
        """Version of the teacher. A new version may have another scale."""
        ...

    @property
    def scale(self) -> Scale:
        """What the scores mean."""
        ...

    def apply_items(self, items: Sequence[Item]) -> None:
        """Takes catalogue changes, in log order."""
        ...

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Scores the candidates of each impression.

        Args:
            impressions: Lists to score; they are independent of each other.
            deadline_s: Time allowed for all of them; None: no limit.

        Returns:
            For each impression, in order, its scores or the reason why it has none. An impression that fails does not
            affect the others.

        Raises:
            TeacherError: The teacher as a whole cannot answer.
        """
        ...


def asked_again(teacher: Teacher) -> bool:
    """Whether a teacher can be asked the same question again. One whose scores are in the log cannot.

    A class says so by an attribute `can_be_asked_again`. Without it, it can.
    """
    return bool(getattr(teacher, "can_be_asked_again", True))


def reads(teacher: Teacher) -> frozenset[str]:
    """Which of `USER` and `LOGGED_SCORE` the scores of a teacher depend on, beside history, context and items.

    A class says so by an attribute `reads`. Without it, on neither.
    """
    return frozenset(getattr(teacher, "reads", ()))

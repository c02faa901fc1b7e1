"""What a teacher is: anything that scores candidate lists.

A teacher has an id, a version and a scale, and they travel with each of its scores. It is told of catalogue changes
in log order, and answers each impression with one score per candidate, or with the reason why it could not. What it
cannot score it masks; it never guesses.

This module knows nothing of any kind of teacher.

Example:
    >>> import numpy as np
    >>> Scores(np.array([0.5, 0.0], np.float32), np.array([True, False])).scored_L.tolist()
    [True, False]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recdistill.errors import TeacherError
from recdistill.records import Impression, Item, Scale


class Scores(NamedTuple):
    """A teacher's answer to one impression of L candidates."""

    values_L: npt.NDArray[np.float32]
    """Scores, shape [L]; what stands where `scored_L` is false means nothing."""
    scored_L: npt.NDArray[np.bool_]
    """Whether each score is real, shape [L]."""


class Teacher(Protocol):
    """Scores candidate lists. Need not be subclassed."""

    @property
    def id(self) -> str:
        """Name of the teacher; scores of two ids are never compared as they are."""
        ...

    @property
    def version(self) -> str:
        """Version of the teacher; a new one may score on a shifted scale."""
        ...

    @property
    def scale(self) -> Scale:
        """What the scores mean."""
        ...

    def apply_items(self, items: Sequence[Item]) -> None:
        """Takes in catalogue changes, in log order."""
        ...

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Scores the candidates of each impression.

        Args:
            impressions: Lists to score; they are independent of each other.
            deadline_s: Time allowed for all of them; None: as long as it takes.

        Returns:
            For each impression, in order, its scores, or why it has none. One that fails does not spoil the others.

        Raises:
            TeacherError: The teacher as a whole cannot answer.
        """
        ...

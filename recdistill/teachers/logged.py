"""A teacher whose scores are already in the stream, as `logged_score` of each candidate.

It knows nothing of how those scores were made.

Example:
    >>> from recdistill.records import Candidate, Impression
    >>> teacher = LoggedTeacher("ranker", "7", "logit")
    >>> [scores] = teacher.score([Impression(id="i", time_us=1, candidates=(Candidate("a", 0.25), Candidate("b")))])
    >>> scores.values_L.tolist(), scores.scored_L.tolist()
    ([0.25, 0.0], [True, False])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recdistill.errors import TeacherError
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.contract import LOGGED_SCORE, Scores


@dataclass(frozen=True)
class LoggedTeacher:
    """Returns the scores that are in the impressions.

    Args:
        id: Name of the ranker that made them.
        version: Its version.
        scale: What they mean.
    """

    id: str
    version: str
    scale: Scale
    can_be_asked_again: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({LOGGED_SCORE})

    def apply_items(self, items: Sequence[Item]) -> None:
        """Does nothing: a logged score needs no catalogue."""

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Reads the logged scores. A candidate without one is masked. A list without any still has labels."""
        return [_logged(impression) for impression in impressions]


def _logged(impression: Impression) -> Scores:
    logged = [candidate.logged_score for candidate in impression.candidates]
    values_L = np.array([0.0 if score is None else score for score in logged], np.float32)
    return Scores(values_L, np.array([score is not None for score in logged], bool))

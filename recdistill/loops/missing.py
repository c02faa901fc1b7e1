"""How many candidates a teacher leaves without a score: said with figures, and a bound.

A teacher masks what it cannot score. Some masks are normal. Many masks mean that something does not fit: a vocabulary
that is too short, items without a text, attributes with another name. Then the student would learn from the rest only,
and nobody would know.

It knows nothing of how a teacher works. A teacher may say why it masks, by a method `why_missing`.

Example:
    >>> missing = Missing("ranker", most=0.9, why=lambda: "200 items have no text")
    >>> missing.take(asked=2000, missing=10)
    >>> missing.take(asked=2000, missing=1990)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    recdistill.errors.TeacherError: teacher ranker gave no score for 1,990 of 2,000 candidates (99.5%): 200 ...
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from recdistill.errors import TeacherError

log_ = logging.getLogger(__name__)

ENOUGH: Final = 1000
"""So many candidates are counted before a share is judged, unless the stream ends."""

NOTABLE: Final = 0.05
"""From this share of missing scores on, it is said; and again when the share has changed by so much."""


class Missing:
    """Counts the candidates without a score, some at a time.

    Args:
        teacher: Its id.
        most: Largest share that may be missing; 1: any.
        why: What the teacher says about it; "": nothing.
    """

    def __init__(self, teacher: str, *, most: float, why: Callable[[], str] = lambda: "") -> None:
        self._teacher, self._most, self._why = teacher, most, why
        self._asked = self._missing = 0
        self._told = 0.0

    def take(self, *, asked: int, missing: int, last: bool = False) -> None:
        """Counts a batch, before it is written.

        Args:
            asked: Candidates that the teacher was asked about.
            missing: Those of them without a score.
            last: Whether nothing comes after it.

        Raises:
            TeacherError: More is missing than may be.
        """
        self._asked += asked
        self._missing += missing
        if not self._asked or (self._asked < ENOUGH and not last):
            return
        share = self._missing / self._asked
        why = self._why()
        figures = (
            f"teacher {self._teacher} gave no score for {self._missing:,} of {self._asked:,} candidates ({share:.1%})"
            + (f": {why}" if why else "")
        )
        self._asked = self._missing = 0
        if share > self._most:
            raise TeacherError(
                f"{figures}; more than score.most_missing = {self._most:g}, so nothing of this batch was written: "
                "mend what the teacher is given, or raise the setting"
            )
        if share >= NOTABLE and abs(share - self._told) >= NOTABLE:
            log_.warning("%s; the student learns from the others alone", figures)
            self._told = share

"""A teacher that is a Python function: it takes impressions, and returns a list of scores for each of them.

The settings name the function, so it is code that the operator trusts. Data from the stream is not trusted. The
function gets a list of impressions and returns a list of the same length. Each entry is a sequence of numbers, one for
each candidate, with None for a candidate that it cannot score. A number that is not finite, or is far too large, counts
as None. For a list that failed, the entry is an exception
instance. If a whole batch raises, each impression is tried alone, so that one bad record does not spoil the others. A
`TeacherError` says that the function cannot answer just now, whatever it is asked.

It knows nothing of what the function does.

Example:
    >>> from recdistill.records import Candidate, Impression
    >>> def by_length(impressions):
    ...     return [[float(len(c.item)) for c in impression.candidates] for impression in impressions]
    >>> teacher = FunctionTeacher(by_length, "length", "1", "unbounded")
    >>> teacher.score([Impression(id="i", time_us=1, candidates=(Candidate("ab"),))])[0].values_L.tolist()
    [2.0]
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recdistill.errors import TeacherError
from recdistill.limits import MAX_SCORE
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.contract import LOGGED_SCORE, USER, Scores, misfit

log_ = logging.getLogger(__name__)

Function = Callable[[Sequence[Impression]], Sequence[Any]]


class _WrongCount(TeacherError):
    """The function gave too few answers, or too many."""


@dataclass(frozen=True)
class FunctionTeacher:
    """Calls a function.

    Args:
        function: Gets impressions. Returns for each a sequence of numbers or None, or an exception instance.
        id: Name of the teacher.
        version: Its version; change it when the function changes.
        scale: What its scores mean.
    """

    function: Function
    id: str
    version: str
    scale: Scale
    reads: ClassVar[frozenset[str]] = frozenset({USER, LOGGED_SCORE})
    """The function gets whole requests, and nobody knows what it looks at."""

    def apply_items(self, items: Sequence[Item]) -> None:
        """Gives the items to the function's attribute `apply_items`, if it has one."""
        hook = getattr(self.function, "apply_items", None)
        if hook is not None:
            hook(items)

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Calls the function. It is trusted to end, so the deadline is not enforced."""
        try:
            return self._call(impressions)
        except TeacherError:
            raise
        except Exception as e:  # noqa: BLE001 - the function is not ours, and may raise anything
            log_.warning(
                "the teacher function raised %s on a batch of %d; trying each alone", type(e).__name__, len(impressions)
            )
        return [self._alone(impression) for impression in impressions]

    def _alone(self, impression: Impression) -> Scores | TeacherError:
        try:
            return self._call([impression])[0]
        except _WrongCount as e:
            return TeacherError(f"impression {impression.id}: {e}")
        except TeacherError:  # it cannot answer just now: the list is not the reason
            raise
        except Exception as e:  # noqa: BLE001
            return TeacherError(f"impression {impression.id}: the teacher function raised {type(e).__name__}: {e}")

    def _call(self, impressions: Sequence[Impression]) -> list[Scores | TeacherError]:
        answers = self.function(impressions)
        if len(answers) != len(impressions):
            raise _WrongCount(
                f"teacher {self.id}: the function answered {len(answers)} of {len(impressions)} impressions; "
                "it must answer each one"
            )
        return [_scores(impression, answer) for impression, answer in zip(impressions, answers, strict=True)]


def _scores(impression: Impression, answer: Any) -> Scores | TeacherError:
    if isinstance(answer, Exception):
        return TeacherError(f"impression {impression.id}: {answer}")
    try:
        values_L = np.array([np.nan if score is None else float(score) for score in answer], np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        return TeacherError(
            f"impression {impression.id}: the teacher function returned something that is no list of numbers: {e}"
        )
    scored_L = np.abs(values_L) <= MAX_SCORE  # false for NaN too; before rounding, so that nothing overflows
    scores = Scores(np.where(scored_L, values_L, 0.0).astype(np.float32), scored_L)
    return misfit(impression, scores) or scores

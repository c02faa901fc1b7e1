"""When a bundle is due: after so many steps, examples or seconds, or when the student's agreement has moved.

Nothing here changes what a student learns. So times and restarts may move an export, and the student's bytes stay the
same. A step or an example that completes a multiple makes a bundle due, so a restart moves nothing there.

It knows nothing of bundles or of how a student learns.

Example:
    >>> now = [0.0]
    >>> due = Triggers(steps=0, examples=100, seconds=60.0, drift=0.0, clock=lambda: now[0])
    >>> due.begin(step=7, examples=90)
    >>> due.learnt(step=8, examples=98, agreement=None, news=False); print(due.reason())
    None
    >>> due.learnt(step=9, examples=106, agreement=None, news=False); print(due.reason())
    examples
    >>> due.exported(); due.learnt(step=10, examples=110, agreement=None, news=False)
    >>> now[0] = 61.0; print(due.reason())
    time
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Reason = Literal["steps", "examples", "time", "drift", "end"]


class Triggers:
    """Notes what was learnt since the last export, and says why the next one is due.

    Args:
        steps: A multiple of so many steps makes one due; 0: never.
        examples: A multiple of so many examples does; 0: never.
        seconds: So many seconds after the last one, if something was learnt since; 0: never.
        drift: The student's agreement with a teacher moved by so much since, or a detector found a change; 0: never.
        age_s: Seconds since the last export, at the beginning.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        steps: int,
        examples: int,
        seconds: float,
        drift: float,
        age_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_steps, self._every_examples, self._seconds, self._drift = steps, examples, seconds, drift
        self._clock = clock
        self._last_s = clock() - age_s
        self._step = self._examples = 0
        self._before: float | None = None  # the agreement at the last export, or the first that was seen
        self._now: float | None = None
        self._due: Reason | None = None
        self._learnt = False

    def begin(self, *, step: int, examples: int) -> None:
        """Where the student stands at the start."""
        self._step, self._examples = step, examples

    def learnt(self, *, step: int, examples: int, agreement: float | None, news: bool) -> None:
        """Notes a step.

        Args:
            step: Steps made.
            examples: Examples learnt, in all.
            agreement: How well the student knew the teacher's order; None where nobody looks.
            news: Whether a detector found a change.
        """
        before, self._step, self._examples = (self._step, self._examples), step, examples
        self._learnt = True
        if agreement is not None:
            self._now = agreement
            self._before = agreement if self._before is None else self._before
        if _passed(before[0], step, self._every_steps):
            self._due = "steps"
        elif _passed(before[1], examples, self._every_examples):
            self._due = "examples"
        elif self._drift and (news or self._moved()):
            self._due = "drift"

    def reason(self) -> Reason | None:
        """Why a bundle is due now; None when none is. It stays due until `exported` is called."""
        if self._due is None and self._seconds and self._learnt and self._clock() - self._last_s >= self._seconds:
            self._due = "time"
        return self._due

    def exported(self) -> None:
        """A bundle of now is being made."""
        self._due, self._learnt, self._before, self._last_s = None, False, self._now, self._clock()

    def _moved(self) -> bool:
        return self._now is not None and self._before is not None and abs(self._now - self._before) >= self._drift


def _passed(before: int, now: int, every: int) -> bool:
    """Whether a multiple was completed between two counts."""
    return bool(every) and now // every > before // every

"""Keeps the course of a test over its users: a limited number of moments, at equal distances, for any number of users.

It knows nothing of bets.

Example:
    >>> from recdistill.judge import Moment
    >>> seen = []
    >>> def now(at_us: int) -> Moment:
    ...     return Moment(users=at_us, at_us=at_us, capital={})
    >>> course = Course(now, most=4)
    >>> for user in range(1, 101):
    ...     course.add(user)
    >>> [one.users for one in course.moments()]
    [32, 64, 96, 100]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recdistill.judge import Moment

MOST: Final = 240


class Course:
    """Keeps some moments of a test.

    Args:
        now: Makes the present moment. It gets the time of the last user.
        most: How many moments are kept at most. It must be even.
    """

    def __init__(self, now: Callable[[int], Moment], most: int = MOST) -> None:
        self._now, self._most = now, most
        self._kept: list[Moment] = []
        self._every, self._count, self._last_us = 1, 0, 0

    def add(self, at_us: int) -> None:
        """Notes that a user was counted, at this time."""
        self._count += 1
        self._last_us = at_us
        if self._count % self._every:
            return
        self._kept.append(self._now(at_us))
        if len(self._kept) == self._most:
            self._kept = self._kept[1::2]
            self._every *= 2

    def moments(self) -> list[Moment]:
        """The moments that were kept, the oldest first, and the present one."""
        newest = [self._now(self._last_us)] if self._count % self._every else []
        return [*self._kept, *newest]

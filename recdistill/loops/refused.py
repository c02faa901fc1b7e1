"""When the version that was refused last is judged again: after so many more held-out lists, or after a time.

A version that a newer one has followed is never judged again, and none is judged again without end.

It knows nothing of how a bundle is judged.

Example:
    >>> now = [0.0]
    >>> rule = Again(lists=100, seconds=0.0, most=1, clock=lambda: now[0])
    >>> rule.due("a bundle", have=5000) is None
    True
    >>> rule.refused("a bundle", have=5000); rule.due(None, have=5099) is None
    True
    >>> rule.due(None, have=5100)
    'a bundle'
    >>> rule.refused("a bundle", have=5100); rule.due(None, have=9999) is None  # once is the most
    True
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Again(Generic[T]):
    """The rule.

    Args:
        lists: So many more held-out lists make it due; 0: their number does not matter.
        seconds: So many seconds do; 0: time does not matter.
        most: How often one is judged again.
        clock: Seconds, monotonic.
    """

    def __init__(self, *, lists: int, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lists, self._seconds, self._most, self._clock = lists, seconds, most, clock
        self._last: T | None = None
        self._have, self._at_s, self._times = 0, 0.0, -1

    def refused(self, one: T, *, have: int, ago_s: float = 0.0) -> None:
        """A version was judged and did not pass.

        Args:
            one: Its bundle.
            have: Held-out lists that had ever come by then.
            ago_s: Seconds since then.
        """
        self._times = self._times + 1 if one == self._last else 0
        self._last, self._have, self._at_s = one, have, self._clock() - ago_s

    def passed(self) -> None:
        """A version passed: nothing is left to judge again."""
        self._last = None

    def due(self, newer: T | None, *, have: int) -> T | None:
        """The one that is judged again now; None: none is.

        Args:
            newer: A bundle that waits for its first verdict; it comes first.
            have: Held-out lists that have ever come.
        """
        if self._last is None or newer is not None or self._times >= self._most:
            return None
        by_lists = self._lists > 0 and have - self._have >= self._lists
        by_time = self._seconds > 0 and self._clock() - self._at_s >= self._seconds
        return self._last if by_lists or by_time else None

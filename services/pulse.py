"""The stop signal of a worker's loop, which also knows whether the loop still lives.

Each loop looks at its stop signal once a round, and long work tells its progress. So a loop that has been silent for
too long hangs. A loop that waits for the stop signal may be silent for as long as it said that it waits.

It knows nothing of what a loop does.

Example:
    >>> now = [0.0]
    >>> pulse = Pulse(silent_s=60.0, clock=lambda: now[0])
    >>> pulse.trouble()
    'the loop has not begun yet'
    >>> pulse.is_set(), pulse.trouble()
    (False, '')
    >>> now[0] = 61.0; pulse.trouble()
    'the loop has been silent for 61 s; if it stays so, restart the process'
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from recdistill.stopping import Stop


class Pulse(Stop):
    """A stop signal that notes when the loop looked at it.

    Only the thread that made it is the loop's. What other threads ask says nothing about the loop.

    Args:
        silent_s: A loop that has not looked for so long hangs.
        clock: Seconds, monotonic.
    """

    def __init__(self, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._silent_s, self._clock = silent_s, clock
        self._loop = threading.get_ident()
        self._last_s: float | None = None
        self._ended = ""

    def is_set(self) -> bool:
        """Whether the loop is to stop."""
        self._beat()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the signal. The loop may be silent meanwhile."""
        self._beat(timeout or 0.0)
        found = super().wait(timeout)
        self._beat()
        return found

    def __call__(self, done: int, total: int | None) -> None:
        """Long work tells its progress: the loop lives."""
        self._beat()

    def end(self, why: str) -> None:
        """The loop has ended."""
        self._ended = why

    def silent_s(self) -> float | None:
        """For how long the loop has been silent; 0 while it waits; None before it has begun."""
        return None if self._last_s is None else max(0.0, self._clock() - self._last_s)

    def trouble(self) -> str:
        """Why the loop does not live, in a sentence; empty while it lives."""
        silent_s = self.silent_s()
        if self._ended:
            return self._ended
        if silent_s is None:
            return "the loop has not begun yet"
        if silent_s > self._silent_s:
            return f"the loop has been silent for {silent_s:.0f} s; if it stays so, restart the process"
        return ""

    def _beat(self, ahead_s: float = 0.0) -> None:
        if threading.get_ident() == self._loop:
            self._last_s = self._clock() + ahead_s

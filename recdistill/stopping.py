"""A stop signal that a handler of SIGTERM or Ctrl-C can give, wherever it finds the main thread.

A handler runs in the main thread, between two of its steps. That thread may be inside `Event.wait` and hold the lock of
the event. `Event.set` wants the same lock, so the handler would wait for ever, and the process could only be killed. So
a handler calls `ask`: it notes the wish, which counts at once, and a thread of its own waits for the lock and wakes
those who wait.

It knows nothing of what is stopped.

Example:
    >>> stop = Stop()
    >>> stop.ask()
    >>> stop.is_set(), stop.wait(10)
    (True, True)
"""

from __future__ import annotations

import _thread
import threading


class Stop(threading.Event):
    """A stop signal that is never taken back."""

    _asked = False

    def ask(self) -> None:
        """Gives the signal. It never waits, so a signal handler may call it."""
        self._asked = True
        _thread.start_new_thread(self.set, ())  # not `threading.Thread`: to start one takes locks too

    def is_set(self) -> bool:
        """Whether the signal was given."""
        return self._asked or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the signal."""
        return self._asked or super().wait(timeout) or self._asked

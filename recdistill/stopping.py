"""Sets a stop signal from a handler of SIGTERM or Ctrl-C, wherever the handler finds the main thread.

A handler runs in the main thread, between two of its steps. That thread may be inside `Event.wait` and hold the lock of
the event. `Event.set` wants the same lock, so the handler would wait for ever, and the process could only be killed. A
thread of its own waits for the lock instead.

It knows nothing of what is stopped.

Example:
    >>> stop = threading.Event()
    >>> set_soon(stop)
    >>> stop.wait(10)
    True
"""

from __future__ import annotations

import _thread
import threading


def set_soon(stop: threading.Event) -> None:
    """Sets a stop signal at once, or as soon as the main thread gives its lock back. It never waits."""
    _thread.start_new_thread(stop.set, ())  # not `threading.Thread`: to start one takes locks too

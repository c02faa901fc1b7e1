"""Waits for something to become true.

It knows nothing of what that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(what: Callable[[], bool], limit_s: float = 15.0) -> None:
    """Waits until `what` is true. It is an error if that takes too long."""
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)

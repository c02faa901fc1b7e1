"""Waits for a registry that does not answer, up to a patience.

It knows nothing of what is asked of the registry.

Example:
    >>> waits = Waits(0.0, 1.0, threading.Event(), Counter())
    >>> waits.for_registry(lambda: 42)
    42
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from recdistill.errors import NoRoom, RegistryError
from recdistill.loops.once import Once

log_ = logging.getLogger(__name__)

T = TypeVar("T")


class Waits:
    """Waits for a registry that does not answer, up to a patience."""

    def __init__(self, patience_s: float, wait_s: float, stop: threading.Event, counts: Counter[str]) -> None:
        self._patience_s, self._wait_s, self._stop, self._counts = patience_s, wait_s, stop, counts
        self._since_s: float | None = None
        self._say = Once(log_)

    def for_registry(self, work: Callable[[], T]) -> T | None:
        """Does some work, again and again while the registry does not answer; None if it was stopped meanwhile.

        Raises:
            NoRoom: The disk is full. This is said at once.
            RegistryError: The last failure, when patience is at its end.
        """
        while True:
            try:
                found = work()
            except NoRoom:  # waiting frees no space
                raise
            except RegistryError as e:
                now_s = time.monotonic()
                self._since_s = now_s if self._since_s is None else self._since_s
                if now_s - self._since_s >= self._patience_s:
                    raise
                self._counts["registry_failures"] += 1
                self._say(f"the registry is waited for, {self._patience_s:.0f} s at most, and nothing is lost: {e}")
                if self._stop.wait(self._wait_s):
                    return None
            else:
                self._since_s = None
                self._say("")
                return found

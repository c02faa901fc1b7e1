"""Makes a writer die at its nth call to the file system, as if its process had been killed there.

Every later call fails too, because a dead process cleans nothing up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

CALLS = ("fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "unlink")
"""The calls that change a file or a name, and those that flush them to the disk."""


class Killed(BaseException):
    """The writer is dead. It is a BaseException, so that no `except Exception` catches it."""


def die_at(monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool = False) -> Callable[[], int]:
    """Kills the writer at its nth call, before or after the call worked. Returns a function that counts the calls."""
    calls = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def double(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > nth or (calls == nth and not after):
                raise Killed
            result = real(*args, **kwargs)
            if calls == nth:
                raise Killed
            return result

        return double

    for name in CALLS:
        # After a kill (not a power cut), the system still has all data. So nothing is flushed, which saves time.
        monkeypatch.setattr(os, name, wrap((lambda _: None) if name == "fsync" else getattr(os, name)))
    return lambda: calls

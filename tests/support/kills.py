"""A writer that dies at its nth call to the file system, as a process does that is killed there.

From that call on each further one fails too: a dead process cleans nothing up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

CALLS = ("fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink")
"""All that changes what stands under a name, and what makes it last."""


class Killed(BaseException):
    """What no `except Exception` may swallow: the writer is gone."""


def die_at(monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool = False) -> Callable[[], int]:
    """Kills the writer at its nth call, before or after the call took effect; returns how to count the calls."""
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
        # A killed process, unlike a loss of power, does not need what was flushed: that would only take time.
        monkeypatch.setattr(os, name, wrap((lambda _: None) if name == "fsync" else getattr(os, name)))
    return lambda: calls

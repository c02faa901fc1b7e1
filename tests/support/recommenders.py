"""Recommenders that misbehave."""

from __future__ import annotations

import threading
import time
from typing import Any

from recdistill.serve import Recommender


class Slow:
    """A recommender that takes its time, or fails."""

    def __init__(self, inner: Recommender, wait_s: float, error: Exception | None = None) -> None:
        self.inner, self.wait_s, self.error = inner, wait_s, error
        self.began = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recommend(self, *args: Any, **named: Any) -> Any:
        self.began.set()
        time.sleep(self.wait_s)
        if self.error is not None:
            raise self.error
        return self.inner.recommend(*args, **named)

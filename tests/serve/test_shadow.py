"""A canary that is asked only to compare: what the background thread keeps."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from typing import Any

import pytest
from support.waiting import wait_for

from recdistill.serve import RecommendAnswer, Request
from recdistill.serve.shadow import Shadow


class Canary:
    """It answers with one item, and can be waited for until it is gone."""

    def recommend(self, _requests: Any, _k: int, _filters: Any) -> list[RecommendAnswer]:
        """The answer."""
        return [_ANSWER]


_ANSWER = RecommendAnswer(items=["a"], scores=[1.0], bundle="", overlay=0, source="personal", unknown_history=0)


def test_a_canary_that_has_ended_is_not_kept_in_memory() -> None:
    """It is a whole bundle. The next canary may come in weeks."""
    counts = Counter[str]()
    shadow, canary = Shadow(1.0, counts), Canary()
    gone = weakref.ref(canary)
    shadow.offer(canary, Request(), None, _ANSWER)  # type: ignore[arg-type]
    del canary
    wait_for(lambda: counts["shadow_asked"] == 1)
    wait_for(lambda: gc.collect() >= 0 and gone() is None, 3)
    assert counts["shadow_same"] == 1
    shadow.close()


def test_a_canary_that_never_answers_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), threading.Event()

    class Hanging(Canary):
        def recommend(self, _requests: Any, _k: int, _filters: Any) -> list[RecommendAnswer]:
            asked.set()
            answers.wait()
            return [_ANSWER]

    monkeypatch.setattr("recdistill.serve.shadow.END_S", 0.05)
    counts = Counter[str]()
    shadow = Shadow(1.0, counts)
    canary: Any = Hanging()
    shadow.offer(canary, Request(), None, _ANSWER)
    assert asked.wait(10)
    while not counts["shadow_dropped"]:  # the queue is full
        shadow.offer(canary, Request(), None, _ANSWER)
    closing = threading.Thread(target=shadow.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    answers.set()

"""Scores wait for labels, within a bound of bytes and of time."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.loops.prequential import waiting
from recdistill.loops.prequential.waiting import Scored, Waiting


def scored(value: float, clock_us: int = 0) -> Scored:
    return Scored.of({"a": np.full(10, value, np.float32)}, group=1, window_us=0, clock_us=clock_us)


def test_where_too_many_wait_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_BYTES", 3 * 40)
    held = Waiting()
    for number in range(5):
        held.put(bytes([number]), scored(number))
    assert list(held.lists) == [b"\2", b"\3", b"\4"]
    assert (held.size, held.dropped) == (120, 2)


def test_a_list_that_is_ranked_twice_waits_once_with_its_newest_scores() -> None:
    held = Waiting()
    held.put(b"one", scored(1.0))
    held.put(b"two", scored(2.0))
    held.put(b"one", scored(3.0))
    assert held.size == 80
    found = held.take(b"one")
    assert found is not None
    assert found.scores()["a"].tolist() == [3.0] * 10
    assert held.take(b"one") is None
    assert held.size == 40


def test_what_came_before_a_time_is_let_go() -> None:
    held = Waiting()
    for number in range(5):
        held.put(bytes([number]), scored(number, clock_us=number))
    held.forget(3)
    assert list(held.lists) == [b"\3", b"\4"]
    assert held.size == 80

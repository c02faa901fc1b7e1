"""Windows open with time, close when no label can come any more, and are then rows."""

from __future__ import annotations

import msgspec
import pytest

from recdistill.loops.prequential import windows
from recdistill.loops.prequential.windows import Windows


def test_windows_follow_the_time_and_become_rows() -> None:
    kept = Windows()
    for time_us in (5, 8, 13, 31):
        window = kept.at(time_us, window_us=10)
        window.lists += 1
        window.ndcg.add("a", 1, time_us / 10)
    assert [one.begin_us for one in kept.open] == [0, 10, 30]
    kept.close(before_us=19)
    assert [row.begin_us for row in kept.rows] == [0]
    kept.close(before_us=20)
    assert [(row.begin_us, row.end_us, row.lists, row.ndcg["a"].mean) for row in kept.rows] == [
        (0, 10, 2, 0.65),
        (10, 20, 1, 1.3),
    ]
    now = kept.now()
    assert now is not None
    assert (now.begin_us, now.lists) == (30, 1)
    assert kept.of(10) is None
    assert kept.of(30) is kept.open[0]


def test_rows_have_a_bound_and_empty_windows_make_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "ROWS", 3)
    monkeypatch.setattr(windows, "TOLD", 2)
    kept = Windows()
    for number in range(6):
        kept.at(number, window_us=1).lists = number % 5
        kept.close(before_us=number)
    kept.close(before_us=99)
    assert [row.begin_us for row in kept.rows] == [2, 3, 4]
    assert kept.now() is None
    assert [row["begin_us"] for row in kept.told()["rows"]] == [3, 4]
    assert msgspec.json.decode(msgspec.json.encode(kept.told()))["now"] is None

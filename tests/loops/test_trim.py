"""What a trim removes when the clock of the machine jumps."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.config import LogSettings
from recdistill.loops import join, score, trim
from recdistill.loops.feed import feed
from recdistill.records import Example, decode
from recdistill.stream import TopicPartition, open_log, standard_topics
from recdistill.stream.embedded import EmbeddedLog
from recdistill.stream.testing import everything
from recdistill.teachers.function import FunctionTeacher

DAY_S = 86_400.0
SETTINGS: dict[str, Any] = {"window_s": 5.0, "batch": 7, "wait_s": 0.02, "idle_s": 0.1, "drain": True}


def joined(folder: Path, *, trims: bool, directory: Path | None) -> dict[tuple[str, str], tuple[float, ...]]:
    """The examples of a stream that is joined in two halves; the topics are trimmed in between, by wrong clocks."""
    lists = world.impressions(120)
    clicks = world.feedback(lists)
    log = open_log(LogSettings(path=str(folder)))
    assert isinstance(log, EmbeddedLog)
    log.create_topics(standard_topics(2, 1))
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    for half in (0, 1):
        feed(
            log, [*lists[60 * half : 60 * (half + 1)], *(c for c in clicks if (c.time_us > lists[59].time_us) == half)]
        )
        score.run(log, teacher, batch=16, wait_s=0.05, stop=threading.Event(), drain=True)
        flush = {"flush": True} if half else {}
        join.run(log, **SETTINGS, **flush, stop=threading.Event(), directory=directory, snapshot_s=0.0)
        for days in (30, -30) if trims else ():
            now_us = round((time.time() + days * DAY_S) * 1e6)
            done, _ = trim.run(log, log, keep_s=7 * DAY_S, clock_us=partial(int, now_us))
            assert (days > 0) == any(one.removed for one in done)
        if trims and not half:
            needed: dict[TopicPartition, int] = {}
            for position in log.positions().values():
                for tp, offset in position.items():
                    needed[tp] = min(offset, needed.get(tp, offset))
            with closing(log.source(["rankings"])) as source:
                ends = {tp: source.bounds(tp)[1] for tp in source.position()}
            assert any(needed[tp] < end for tp, end in ends.items()), "lists are open, and the joiner needs them"
            for tp, offset in needed.items():
                with closing(log.source([tp])) as source:
                    assert source.bounds(tp)[0] <= offset, f"{tp}: what a stage needs is gone"
    made = [decode(Example, message.value) for message in everything(log, "examples")]
    log.close()
    return {(one.ranking.impression.id, one.label_state): one.labels for one in made}


@pytest.mark.slow
@pytest.mark.parametrize("snapshot", [True, False])
def test_no_clock_removes_what_a_stage_or_a_joiners_window_needs(tmp_path: Path, snapshot: bool) -> None:
    """The clock is a month ahead, and then a month behind. A joiner with and without its snapshot loses no label."""
    expected = joined(tmp_path / "whole", trims=False, directory=None)
    found = joined(tmp_path / "trimmed", trims=True, directory=tmp_path / "window" if snapshot else None)
    assert found == expected
    assert sum(any(labels) for labels in found.values()) > 20


class Times:
    """A wall clock that can be set, and a steady one."""

    def __init__(self) -> None:
        self.ahead_s, self.steady_s = 1e9, 0.0
        self.clock = trim.Clock(lambda: self.ahead_s + self.steady_s, lambda: self.steady_s)

    def at(self, *steady_s: float) -> list[float]:
        """By how much the believed clock is ahead of the steady one, at each of these times."""
        found = []
        for self.steady_s in steady_s:
            found.append(self.clock() / 1e6 - self.steady_s)
        return found


def test_a_jump_ahead_is_believed_after_a_day(caplog: pytest.LogCaptureFixture) -> None:
    times, right_s, wrong_s = Times(), 1e9 + 60, 1e9 + 60 + 30 * DAY_S
    times.ahead_s = right_s  # it is set a little
    assert times.at(600.0, 1_200.0) == [right_s] * 2
    times.ahead_s = wrong_s
    with caplog.at_level(logging.WARNING):
        assert times.at(2_000.0, 50_000.0, 88_000.0) == [right_s] * 3
    [said] = [one.getMessage() for one in caplog.records]
    assert said.startswith("the clock has jumped ahead by 2592000 s;")
    times.ahead_s = right_s  # somebody has set it right
    assert times.at(88_300.0) == [right_s]
    times.ahead_s = wrong_s
    assert times.at(90_000.0, 170_000.0, 90_000.0 + DAY_S) == [right_s, right_s, wrong_s]
    times.ahead_s = right_s
    # What is younger than it seems is removed later, and that is safe.
    assert times.at(180_000.0) == [right_s]

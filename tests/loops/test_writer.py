"""Answers that are written back: what does not fit is counted, and a log that is gone is noticed."""

from __future__ import annotations

import threading

import pytest

from recdistill.errors import StreamError
from recdistill.loops import writer
from recdistill.loops.one_log import OneLog
from recdistill.loops.writer import Writer
from recdistill.records import Impression
from recdistill.serve import Ranker
from recdistill.stream import Log


def test_what_cannot_be_written_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Log:
        raise StreamError("no broker answers")

    ranker = Ranker()
    large = Writer(OneLog(away), "rank-test", ranker)
    monkeypatch.setattr(writer, "QUEUE", 3)
    small = Writer(OneLog(away), "rank-test", ranker)
    assert [small.keep(Impression(str(n), 1)) for n in range(5)] == [True, True, True, False, False]
    assert ranker.counts["impressions_dropped"] == 2
    for n in range(4):
        large.keep(Impression(str(n), 1))
    done = threading.Event()
    done.set()
    large.run(done)
    assert ranker.counts["impressions_dropped"] == 6
    assert ranker.troubles == {}, "a broker that is away comes back, and the ranker goes on serving"

"""Answers that are written back: what does not fit is counted, and a log that is gone is noticed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_for

from recdistill.config import LogSettings
from recdistill.errors import StreamError
from recdistill.loops import writer
from recdistill.loops.one_log import OneLog
from recdistill.loops.writer import Writer
from recdistill.records import Impression
from recdistill.serve import Ranker
from recdistill.stream import Log, open_log, standard_topics


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


@contextmanager
def running(one: Writer) -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=one.run, args=(done,))
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(20)
        assert not thread.is_alive()


def opener(path: Path) -> OneLog:
    settings = LogSettings(path=str(path))
    return OneLog(lambda: open_log(settings) if path.exists() else None)


def new_log(path: Path) -> None:
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics())
    log.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_log_that_is_gone_is_noticed(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """What comes then is counted as dropped, answers have no id, and the ranker is not ready until the log is back."""
    path, aside = tmp_path / "logs" / "log.sqlite", tmp_path / "aside"
    new_log(path)
    ranker = Ranker()
    one = Writer(opener(path), "rank-test", ranker)
    with running(one):
        assert one.keep(Impression("before", 1))
        wait_for(lambda: ranker.counts["impressions_written"] == 1)
        shutil.move(path.parent, aside)
        if how == "replaced":
            new_log(path)
        one.keep(Impression("meanwhile", 1))
        wait_for(lambda: bool(ranker.troubles))
        wait_for(lambda: ranker.counts["impressions_dropped"] == 1)
        assert not one.keep(Impression("later", 1))
        assert ranker.counts["impressions_written"] == 1
        if how == "replaced":
            shutil.rmtree(path.parent)
        shutil.move(aside, path.parent)
        wait_for(lambda: not ranker.troubles)
        assert one.keep(Impression("after", 1))
        wait_for(lambda: ranker.counts["impressions_written"] == 2)
    assert "answers are not written back" in caplog.text

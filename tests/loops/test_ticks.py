"""Marks of a silence: one for each, at the turn of its lane, and none while somebody upstream has work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from support import world
from support.distilling import scored
from support.waiting import wait_for

from recdistill.config import DistilSettings, HeldOutSettings, JoinSettings, LogSettings, Settings
from recdistill.loops import join, wire
from recdistill.loops.begin import begun
from recdistill.loops.distil.reading import Reading
from recdistill.loops.feed import feed
from recdistill.loops.ticks import Ticks
from recdistill.loops.workers import STAGE
from recdistill.records import Impression
from recdistill.stream import Lanes, Log, Message, TopicPartition, is_tick, open_log, read_place, standard_topics
from recdistill.stream.embedded import EmbeddedLog

LANES = 3
TICK_S = 0.4


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=2, lanes=LANES))
    feed(log, world.items())
    yield log
    log.close()


@pytest.fixture
def counts(log: Log) -> Iterator[Counter[str]]:
    """Those of a joiner that runs. A partition that is silent would hold the others back for a minute."""
    stop, found = threading.Event(), Counter[str]()
    about = {"window_s": 5.0, "tick_s": TICK_S, "wait_s": 0.02, "idle_s": 60.0, "stop": stop, "counts": found}
    thread = threading.Thread(target=join.run, args=(log,), kwargs=about)
    thread.start()
    yield found
    stop.set()
    thread.join()


def some(count: int, first: int) -> list[Impression]:
    now_us = time.time_ns() // 1000
    return [
        msgspec.structs.replace(one, id=f"list-{first + n}", time_us=now_us, history=())
        for n, one in enumerate(world.impressions(count))
    ]


def in_turn(log: Log) -> list[Message]:
    """The messages of `examples`, one of each lane in turn."""
    source = log.source(["examples"])
    found: list[list[Message]] = [[] for _ in range(LANES)]
    while some := source.read(1000, 0.0):
        for message in some:
            found[message.tp.partition].append(message)
    source.close()
    return [found[n % LANES][n // LANES] for n in range(sum(map(len, found)))]


@pytest.mark.slow
def test_a_silence_has_one_mark_and_readers_pass_it(log: Log, counts: Counter[str]) -> None:
    feed(log, some(7, 0))
    scored(log)
    wait_for(lambda: counts["ticks"] == 1, 60.0)
    assert counts["examples"] == 7
    feed(log, some(4, 7))
    scored(log)
    wait_for(lambda: counts["ticks"] == 2, 60.0)
    found = in_turn(log)  # it fails where a turn was left out
    places = [n for n, message in enumerate(found) if is_tick(message)]
    assert places == [7, 12]
    for place in places:
        assert found[place].time_us - found[place - 1].time_us >= TICK_S * 1e6
    lanes = Lanes(log, dead_letters=lambda message, error: pytest.fail(f"{message}: {error}"))
    assert len(lanes.next(100, 0.0)) == 11
    lanes.close()


@pytest.mark.slow
def test_the_last_examples_are_learnt_also_where_a_batch_may_wait_longer_than_a_silence(
    log: Log, tmp_path: Path
) -> None:
    """A mark of the same window would end no batch, and a silence has one mark."""
    settings = Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        join=JoinSettings(tick_s=0.1, wait_s=0.02, idle_s=60.0, directory=""),
        distil=DistilSettings(learn_within_s=1.5),
        held_out=HeldOutSettings(most=0),
    )
    stop, counts = threading.Event(), Counter[str]()
    thread = threading.Thread(target=wire.join, args=(settings, stop, False, counts, None))
    thread.start()
    try:
        feed(log, some(7, 0))
        scored(log)
        wait_for(lambda: counts["ticks"] == 1, 60.0)
    finally:
        stop.set()
        thread.join()
    lanes = Lanes(log, dead_letters=lambda message, error: pytest.fail(f"{message}: {error}"))
    reading, learnt = Reading(lanes), 0
    for _ in range(20):
        batch = reading.batch(100, 0.0, until=None, within_s=settings.distil.learn_within_s)
        if batch is not None:
            learnt += len(batch)
            reading.taken()
    lanes.close()
    assert learnt == 7


class Taken:
    """A merge that has taken everything, or has something that waits for a silent partition."""

    waits = False

    def waiting(self) -> int:
        return int(self.waits)

    def at_ends(self) -> bool:
        return True

    def let_go(self) -> bool:
        waits, self.waits = self.waits, False
        return waits


def test_there_is_none_while_an_impression_is_not_scored(log: Log) -> None:
    now, merge = [0.0], Taken()
    ticks = Ticks(log, after_s=2.0, clock=lambda: now[0], now_us=lambda: int(now[0] * 1e6))

    def due() -> bool:
        now[0] += 3.0
        return ticks.due(merge)  # type: ignore[arg-type]

    assert [due(), due()] == [True, False]  # nobody knows what was there before; then this silence has its mark
    feed(log, some(5, 0))
    ticks.wrote(int(now[0] * 1e6))
    assert [due(), due()] == [False, False]
    scored(log)
    merge.waits = True
    assert [due(), merge.waits, due(), due()] == [False, False, True, False]
    ticks.close()


def test_a_list_of_a_wrong_clock_puts_no_mark_off(log: Log) -> None:
    now = [0.0]
    ticks = Ticks(log, after_s=2.0, clock=lambda: now[0], now_us=lambda: int(now[0] * 1e6))
    now[0] = 3.0
    assert ticks.due(Taken())  # type: ignore[arg-type]
    ticks.wrote(3_600 * 10**6)
    now[0] = 4.0
    assert not ticks.due(Taken())  # type: ignore[arg-type]
    now[0] = 5.5
    assert ticks.due(Taken())  # type: ignore[arg-type]
    ticks.close()


def test_a_scorer_that_lost_its_place_to_retention_ends_the_marks_only_until_it_goes_on(tmp_path: Path) -> None:
    now, merge = [0.0], Taken()
    with closing(EmbeddedLog(tmp_path / "other.sqlite")) as log:
        log.create_topics(standard_topics())
        feed(log, some(2, 0))
        scored(log)
        feed(log, some(3, 2))
        log.trim(TopicPartition("impressions", 0), 5)
        ticks = Ticks(log, after_s=2.0, clock=lambda: now[0], now_us=lambda: int(now[0] * 1e6))

        def due() -> bool:
            now[0] += 3.0
            return ticks.due(merge)  # type: ignore[arg-type]

        assert [due(), due()] == [False, False]
        with begun(log, "score", STAGE, [TopicPartition("impressions", 0)], read_place("beginning", words=True)):
            pass
        scored(log)
        assert [due(), due()] == [True, False]
        ticks.close()


def test_a_log_that_is_drained_gets_none(log: Log) -> None:
    feed(log, some(5, 0))
    scored(log)
    counts = join.run(log, window_s=5.0, tick_s=0.001, wait_s=0.02, stop=threading.Event(), drain=True)
    assert counts["examples"] == 5
    assert counts["ticks"] == 0

"""Records -> topics, on both kinds of log: a set of records is written whole and once, however often it is begun."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from recdistill.config import LogSettings
from recdistill.errors import DataError, Fenced, StreamError
from recdistill.loops.feed import feed_once, survey
from recdistill.records import Feedback, Item, Record, decode
from recdistill.stream import Log, open_log, standard_topics


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    settings = LogSettings(path=str(tmp_path / "log.sqlite"), prefix=prefix)
    if request.param == "kafka":
        settings = LogSettings(kind="kafka", brokers=request.getfixturevalue("kafka_brokers"), prefix=prefix)
    opened = open_log(settings)
    opened.create_topics(standard_topics(2))
    yield opened
    opened.close()


def written(log: Log, topic: str, kind: type[Record]) -> list[Record]:
    source = log.source([topic])
    found: list[Record] = []
    deadline = time.monotonic() + 60
    try:
        while any(offset < source.bounds(tp)[1] for tp, offset in source.position().items()):
            assert time.monotonic() < deadline
            found += [decode(kind, one.value) for one in source.read(timeout_s=0.5)]
    finally:
        source.close()
    return found


ITEMS = [Item(f"i{n}", attributes={"n": float(n)}) for n in range(50)]
CLICKS = [Feedback(f"f{n}", f"r{n}", "a", "click", 1.0, n) for n in range(30)]


def test_stopped_killed_and_repeated(log: Log) -> None:
    whole = survey(ITEMS)
    assert whole is not None
    stop = threading.Event()
    fed = feed_once(log, ITEMS, whole, batch=10, stop=stop, progress=lambda *_: stop.set())
    assert (dict(fed.counts), fed.before, fed.stopped) == ({"items": 10}, 0, True)

    def die(done: int, total: int | None) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feed_once(log, ITEMS, whole, batch=10, progress=die)

    def broken() -> Iterator[Item]:
        yield from ITEMS[:45]
        raise KeyboardInterrupt  # inside of a batch: nothing of it is written

    with pytest.raises(KeyboardInterrupt):
        feed_once(log, broken(), whole, batch=10)
    fed = feed_once(log, iter(ITEMS), whole, batch=10)
    assert (dict(fed.counts), fed.before, fed.stopped) == ({"items": 10}, 40, False)
    assert written(log, "items", Item) == ITEMS
    assert feed_once(log, ITEMS, whole).before == 50
    assert written(log, "items", Item) == ITEMS
    assert dict(feed_once(log, ITEMS, whole, again=True).counts) == {"items": 50}
    assert written(log, "items", Item) == ITEMS * 2


def test_other_sets_do_not_meet_and_the_same_set_is_taken_over(log: Log) -> None:
    whole, clicks = survey(ITEMS), survey(CLICKS)
    assert whole is not None
    assert clicks is not None
    inner: list[int] = []

    def others(done: int, total: int | None) -> None:
        if not inner:
            inner.append(feed_once(log, CLICKS, clicks).counts["feedback"])

    assert feed_once(log, ITEMS, whole, batch=10, progress=others).counts["items"] == 50
    assert inner == [30]
    assert sorted(one.time_us for one in written(log, "feedback", Feedback)) == list(range(30))  # type: ignore[attr-defined]

    more = [Item(f"more-{n}") for n in range(50)]
    both = survey(more)
    assert both is not None

    def the_same(done: int, total: int | None) -> None:
        if len(inner) == 1:
            inner.append(0)
            inner.append(feed_once(log, more, both).counts["items"])

    with pytest.raises(Fenced):
        feed_once(log, more, both, batch=10, progress=the_same)
    assert inner == [30, 0, 40]
    assert written(log, "items", Item) == [*ITEMS, *more]


def test_records_that_changed_are_refused(log: Log) -> None:
    whole = survey(ITEMS)
    assert whole is not None
    stop = threading.Event()
    feed_once(log, ITEMS, whole, batch=10, stop=stop, progress=lambda *_: stop.set())
    other = [*ITEMS[:5], Item("another"), *ITEMS[6:]]
    for records, held in ((other, 10), (ITEMS[:-1], 49), ([*ITEMS, Item("one more")], 49)):
        with pytest.raises(DataError, match=f"changed while they were imported; {held} of the old ones"):
            feed_once(log, records, whole, batch=10)
    assert feed_once(log, ITEMS, whole, batch=10).counts["items"] == 1
    assert written(log, "items", Item) == ITEMS


def test_nothing_is_written_of_nothing(log: Log) -> None:
    whole = survey([])
    assert whole is not None
    assert feed_once(log, [], whole) == ({}, 0, False)


KILLED = """
import os, sys
from recdistill.config import LogSettings
from recdistill.loops.feed import feed_once, survey
from recdistill.records import Item
from recdistill.stream import open_log
log = open_log(LogSettings(kind="kafka", brokers=sys.argv[1], prefix=sys.argv[2]))
records = [Item("x"), Item("y")]
feed_once(log, records, survey(records), batch=1, progress=lambda *_: os._exit(9))
"""


@pytest.mark.kafka
def test_a_broker_that_forgot_how_far_an_import_came(kafka_brokers: str) -> None:
    """Brokers forget positions after some days. What was written is not written again, or it is said to be in doubt."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    log = open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=prefix))
    admin = KafkaAdminClient(bootstrap_servers=kafka_brokers)
    try:
        log.create_topics(standard_topics())
        for records, killed in ((ITEMS, False), ([Item("x"), Item("y")], True)):
            whole = survey(records)
            assert whole is not None
            if killed:
                argv = [sys.executable, "-c", KILLED, kafka_brokers, prefix]
                assert subprocess.run(argv, timeout=120).returncode == 9
            else:
                feed_once(log, records, whole)
            admin.delete_groups([f"{prefix}import-{whole.digest}"])
            if killed:
                with pytest.raises(StreamError, match="the broker has forgotten how far it came"):
                    feed_once(log, records, whole)
                assert feed_once(log, records, whole, again=True).counts["items"] == 2
            else:
                assert feed_once(log, records, whole) == ({}, 50, False)
        assert written(log, "items", Item) == [*ITEMS, Item("x"), Item("x"), Item("y")]
    finally:
        admin.close()
        log.close()

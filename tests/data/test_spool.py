"""Records in the order of time, read as often as wanted; items that lists name are found once."""

from __future__ import annotations

import random
import threading

import pytest

from recdistill.data.spool import Spool, unknown_items
from recdistill.errors import DataError, Interrupted
from recdistill.records import Candidate, Event, Feedback, Impression, Item, Record, decode, encode, encoded


def test_records_come_in_the_order_of_time() -> None:
    chance = random.Random(3)
    records: list[Record] = []
    for n in range(300):
        at = chance.randrange(50)
        records += [Impression(f"r{n}", at), Feedback(f"f{n}", f"r{n}", "a", "click", time_us=at + 1)]
    with Spool() as spool:
        spool.fill(map(encoded, records))
        wanted = sorted(records, key=lambda one: one.time_us)  # type: ignore[union-attr]  # stable
        assert [decode(one.kind, one.value) for one in spool] == wanted
        assert [one.value for one in spool] == [encode(one) for one in wanted], "it can be read again"
        assert spool.unsorted
    with Spool(by_time=False) as spool:
        spool.fill(map(encoded, records))
        assert list(spool) == [encoded(one) for one in records]


def test_a_table_in_order_is_said_to_be_so() -> None:
    with Spool() as spool:
        spool.fill(map(encoded, [Impression("a", 1), Impression("b", 1), Impression("c", 2)]))
        assert not spool.unsorted
    with Spool() as empty:
        empty.fill([])
        assert list(empty) == []


def test_what_stops_it() -> None:
    stop = threading.Event()
    stop.set()
    with Spool() as spool, pytest.raises(Interrupted, match="nothing was written"):
        spool.fill([encoded(Impression("a", 1))], stop=stop)


def test_a_disk_without_room_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool() as spool:
        spool._file.execute("PRAGMA max_page_count = 20")
        with pytest.raises(DataError, match=r"kept until they are written: .*full.*; is there room in /"):
            spool.fill(encoded(Impression(f"r{n}", n, user="u" * 400)) for n in range(10_000))


def test_items_that_lists_name_are_found_once() -> None:
    shown = Impression("r", 5, history=(Event("old"),), candidates=(Candidate("a"), Candidate("b")))
    again = Impression("s", 6, candidates=(Candidate("b"), Candidate("c")))
    assert unknown_items(map(encoded, [shown, again]), {"a"}) == [Item("old"), Item("b"), Item("c")]

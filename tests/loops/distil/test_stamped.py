"""Items up to a stamp, against a naive reading, over every kind of hole."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.errors import OutOfRange, WrongLog
from recdistill.loops.distil.stamped import ITEMS, StampedItems
from recdistill.stream import LogIdentity
from recdistill.stream.embedded import EmbeddedLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(tmp_path / "log.sqlite")
    opened.create_topics({"items": 1})
    yield opened
    opened.close()


def write(log: EmbeddedLog, chance: random.Random, count: int) -> None:
    stage = log.stage("writer")
    for n in range(count):
        try:
            with stage.transaction() as transaction:
                for part in range(chance.randrange(1, 4)):
                    transaction.send("items", b"%d.%d" % (n, part))
                if chance.random() < 0.3:
                    raise KeyError
        except KeyError:
            pass
    stage.close()


def offsets(log: EmbeddedLog) -> list[int]:
    source, found = log.source(["items"]), []
    while source.position()[ITEMS] < source.bounds(ITEMS)[1]:
        found += [message.offset for message in source.read(7, 0.0)]
    source.close()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_each_message_comes_once_and_never_before_its_stamp(log: EmbeddedLog, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    write(log, chance, 60)
    with sqlite3.connect(tmp_path / "log.sqlite") as file:  # holes as compaction leaves them
        (number,) = file.execute("SELECT id FROM partitions WHERE topic = 'items'").fetchone()
        for offset in chance.sample(range(200), 60):
            file.execute(f"DELETE FROM messages_{number} WHERE offset = ?", (offset,))
    items, there = StampedItems(log), offsets(log)
    end, before = log.source(["items"]).bounds(ITEMS)[1], 0
    for stamp in [*sorted(chance.choices(range(end + 1), k=12)), end]:
        taken = [message.offset for block in items.until(stamp) for message in block]
        assert taken == [offset for offset in there if before <= offset < stamp]
        assert items.next == max(before, stamp)
        before = stamp
        if chance.random() < 0.5:  # stopped, and resumed at what was saved
            identity = items.identity()
            items.close()
            items = StampedItems(log)
            items.seek(identity, stamp)
            write(log, chance, 1)
            there = offsets(log)
    items.close()


def test_a_stamp_behind_the_end_is_out_of_range(log: EmbeddedLog) -> None:
    write(log, random.Random(0), 5)
    items = StampedItems(log)
    end = log.source(["items"]).bounds(ITEMS)[1]
    with pytest.raises(OutOfRange, match=f"with the catalogue as of {end + 1}, but items ends at {end}"):
        list(items.until(end + 1))
    assert items.next == 0
    items.close()


def test_a_block_that_was_not_used_up_does_not_count(log: EmbeddedLog) -> None:
    write(log, random.Random(0), 5)
    items = StampedItems(log)
    for _ in items.until(4):
        break
    assert items.next == 0
    items.close()


def test_an_earlier_stamp_takes_nothing_back(log: EmbeddedLog) -> None:
    write(log, random.Random(0), 5)
    items = StampedItems(log)
    list(items.until(6))
    assert list(items.until(3)) == []
    assert items.next == 6
    items.close()


def test_another_logs_position_is_refused(log: EmbeddedLog) -> None:
    items = StampedItems(log)
    with pytest.raises(WrongLog):
        items.seek(LogIdentity("other", {"items": 1}), 0)
    items.close()

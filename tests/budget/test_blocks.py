"""Blocks of a partition: where a batch is cut, and which rankings are found again."""

from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.budget.blocks import BLOCK, WINDOW, groups, offset_header, rankings_before
from recdistill.config import LogSettings
from recdistill.loops.feed import feed
from recdistill.records import Ranking, encode
from recdistill.stream import Log, Message, Source, TopicPartition, open_log, standard_topics

TP = TopicPartition("impressions", 0)


def opened(path: Path) -> Log:
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics())
    return log


def test_batches_are_cut_where_a_block_ends(tmp_path: Path) -> None:
    log = opened(tmp_path / "log.sqlite")
    feed(log, world.impressions(600))
    source = log.source(["impressions"])
    messages = source.read(600, 0.1)
    source.close()
    log.close()
    assert [len(group) for group in groups(messages)] == [256, 256, 88]
    assert [m for group in groups(messages) for m in group] == messages


def test_the_rankings_of_the_blocks_before_are_found_and_no_others(tmp_path: Path) -> None:
    """Among rankings without the header, and values that do not decode."""
    log = opened(tmp_path / "log.sqlite")
    [impression] = world.impressions(1)
    length = len(impression.candidates)
    ranking = Ranking(impression, "t", "1", "logit", (0.0,) * length, (True,) * length)
    count = 10 * BLOCK
    stage = log.stage("test")
    with stage.transaction() as transaction:
        for offset in range(count):
            value = encode(ranking) if offset % 5 else b"no ranking"
            headers = (offset_header(offset),) if offset % 3 else ()
            transaction.send("rankings", value, key=b"k", partition=0, headers=headers)
    stage.close()
    found = [offset for _, tp, offset in rankings_before(log, {TP: count + 7}) if tp == TP]
    log.close()
    assert found == [n for n in range((10 - WINDOW) * BLOCK, count) if n % 5 and n % 3]


def test_a_log_that_takes_its_time_gives_all_rankings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose answer takes longer than a wait gives nothing at first. A choice must not depend on that."""
    log = opened(tmp_path / "log.sqlite")
    [impression] = world.impressions(1)
    length = len(impression.candidates)
    ranking = Ranking(impression, "t", "1", "logit", (0.0,) * length, (True,) * length)
    stage = log.stage("test")
    with stage.transaction() as transaction:
        for offset in range(700):
            transaction.send("rankings", encode(ranking), key=b"k", partition=0, headers=(offset_header(offset),))
    stage.close()
    quick = log.source

    class Late:
        """Every other read finds nothing yet."""

        def __init__(self, source: Source) -> None:
            self._source, self._turn = source, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._source, name)

        def read(self, *args: Any) -> list[Message]:
            self._turn += 1
            return self._source.read(*args) if self._turn % 2 == 0 else []

    monkeypatch.setattr(log, "source", lambda *args: Late(quick(*args)))
    found = [offset for _, _, offset in rankings_before(log, {TP: 700})]
    log.close()
    assert found == list(range(700))

"""Places in a log, held against a plain search through all records."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recdistill.errors import OutOfRange, UsageError
from recdistill.records import Candidate, Example, Feedback, Impression, Ranking, encode
from recdistill.stream import Message, TopicPartition, cut_at, event_time_us, place_at, read_place
from recdistill.stream.embedded import EmbeddedLog

TP = TopicPartition("feedback", 0)


@pytest.mark.slow
def test_a_time_is_the_first_record_that_is_not_older(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"feedback": 1})
    chance, stage = random.Random(3), log.stage("product")
    at: list[tuple[int, int]] = []  # second, and place among the records
    second = 0
    for _ in range(80):
        with stage.transaction() as transaction:
            for _ in range(chance.randint(1, 4)):
                second += chance.randint(0, 3)
                transaction.send("feedback", encode(Feedback("f", "i", "a", "click", time_us=second * 1_000_000)))
                at.append((second, len(at)))
        try:
            with stage.transaction() as transaction:
                transaction.send("feedback", b"never")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    stage.close()
    source = log.source([TP])
    messages = source.read(1000, 0)
    assert len(messages) == len(at)
    for wanted in (0, 1, 7, second // 2, second, second + 1):
        found = place_at(log, [TP], read_place(f"@{wanted}"))[TP]
        here = [message.offset for message in messages if message.offset >= found]
        expected = [message.offset for (s, _), message in zip(at, messages, strict=True) if s >= wanted]
        assert here == expected
    source.close()
    log.close()


def test_what_has_no_time_of_its_own_has_the_time_of_the_log(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"feedback": 1, "bundles": 1})
    stage = log.stage("product")
    with stage.transaction() as transaction:
        transaction.send("feedback", b"garbage", time_us=7)
        transaction.send("bundles", b"anything", time_us=9)
        transaction.send("feedback", encode(Feedback("f", "i", "a", "click", time_us=5)), time_us=8)
    source = log.source(["feedback", "bundles"])
    times = {(message.tp.topic, message.offset): event_time_us(message) for message in source.read(10, 0)}
    assert times == {("feedback", 0): 7, ("feedback", 1): 5, ("bundles", 0): 9}
    source.close()
    stage.close()
    log.close()


def test_words_and_positions_of_several_topics(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"feedback": 1, "impressions": 2})
    stage = log.stage("product")
    with stage.transaction() as transaction:
        for n in range(6):
            transaction.send("impressions", encode(Impression(f"i{n}", n)), partition=n % 2)
            transaction.send("feedback", b"x")
    stage.close()
    lists = [TopicPartition("impressions", 0), TopicPartition("impressions", 1)]
    assert place_at(log, [*lists, TP], read_place("beginning", words=True)) == {lists[0]: 0, lists[1]: 0, TP: 0}
    assert place_at(log, [*lists, TP], read_place("latest", words=True)) == {lists[0]: 4, lists[1]: 4, TP: 7}
    typed = read_place("impressions/0:1,impressions/1:2,feedback/0:3")
    assert place_at(log, [*lists, TP], typed) == {lists[0]: 1, lists[1]: 2, TP: 3}
    assert place_at(log, [TP], read_place("6")) == {TP: 6}
    for text, tps in (("3", lists), ("3", [*lists, TP]), ("impressions/0:1", lists)):
        with pytest.raises(UsageError, match=r"does not say the offset of .*; write \w+/0:OFFSET,\w+/"):
            place_at(log, tps, read_place(text))
    for text in ("impressions/0:1,impressions/1:1,impressions/2:1", "impressions/0:1,impressions/1:1,feedback/0:1"):
        with pytest.raises(UsageError, match="and what is read is impressions/0, impressions/1"):
            place_at(log, lists, read_place(text))
    with pytest.raises(OutOfRange, match=r"the position 8 of feedback/0 is outside of what the log holds \(0 to 7\)"):
        place_at(log, [TP], read_place("8"))
    log.close()


class Slow:
    """A log that gives nothing at the first question after a jump, as a broker that is busy."""

    def __init__(self, inner: Any, wait_s: float = 0.0) -> None:
        self._inner, self._wait_s, self._jumped = inner, wait_s, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def source(self, *args: Any, **named: Any) -> Slow:
        return Slow(self._inner.source(*args, **named), self._wait_s)

    def seek(self, position: Any) -> None:
        self._jumped = True
        self._inner.seek(position)

    def read_from(self, *args: Any) -> list[Message]:
        if self._jumped:
            self._jumped = False
            time.sleep(self._wait_s)
            return []
        found: list[Message] = self._inner.read_from(*args)
        return found


@pytest.fixture
def lists(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """Examples of seconds 1 to 40."""
    shown = [Impression(f"r{n}", n * 1_000_000, candidates=(Candidate("a"),)) for n in range(1, 41)]
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log:
        log.create_topics({"examples": 1})
        for some in (shown[:15], shown[15:]):
            with closing(log.stage("joiner")) as stage, stage.transaction() as transaction:
                for one in some:
                    ranking = Ranking(one, "t", "1", "logit", scores=(1.0,), scored=(True,))
                    transaction.send("examples", encode(Example(ranking, labels=(1.0,))))
        yield log


def test_a_log_that_is_slow_to_answer_gives_the_same_place(lists: EmbeddedLog) -> None:
    slow: Any = Slow(lists)
    for text in ("@0", "@1", "@15", "@16", "@30", "@40", "@41"):
        tp, place = TopicPartition("examples", 0), read_place(text)
        assert place_at(slow, [tp], place) == place_at(lists, [tp], place), text


@pytest.mark.slow
def test_it_gives_the_same_place_in_the_one_order(lists: EmbeddedLog) -> None:
    slow: Any = Slow(lists, 0.25)
    for text in ("@0", "@15", "@30", "@41"):
        assert cut_at(slow, read_place(text)) == cut_at(lists, read_place(text)), text

"""The one contract suite: every test here runs on the embedded log and on a real Kafka broker.

Where it says what must be visible, it keeps its own list of what was committed and compares with that.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from recdistill.config import LogSettings
from recdistill.errors import Fenced, OutOfRange, StreamError, WrongLog
from recdistill.limits import MAX_BYTES, MAX_NOTE
from recdistill.stream import Log, Message, Source, TopicPartition, open_log, outside, partition_for
from recdistill.stream.testing import COMPACT_SOON, compacted

A0, A1 = TopicPartition("a", 0), TopicPartition("a", 1)


@pytest.fixture
def log(settings: LogSettings) -> Iterator[Log]:
    opened = open_log(settings)
    opened.create_topics({"a": 2, "b": 1})
    yield opened
    opened.close()


@pytest.fixture
def closing() -> Iterator[Callable[..., object]]:
    """Registers something to close at the end of the test, and gives it back."""
    opened: list[object] = []

    def register(thing: object) -> object:
        opened.append(thing)
        return thing

    yield register
    for thing in reversed(opened):
        thing.close()  # type: ignore[attr-defined]


def read_all(source: Source, patience_s: float = 20.0) -> list[Message]:
    """Everything up to the present ends: by position, because offsets have gaps."""
    ends = {tp: source.bounds(tp)[1] for tp in source.position()}
    messages: list[Message] = []
    deadline = time.monotonic() + patience_s
    while any(source.position()[tp] < end for tp, end in ends.items()):
        assert time.monotonic() < deadline, f"stuck at {source.position()} before {ends}"
        messages += source.read(max_messages=7, timeout_s=0.2)
    return messages


def test_what_is_committed_is_read_back_whole(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        transaction.send("b", b"one", key=b"k", headers=[("h", b"\x00\xff"), ("h", b"")], time_us=1_700_000_000_123_000)
        transaction.send("b", None, key=b"tombstone")
        transaction.send("b", b"", partition=0)
    before_us = time.time_ns() // 1000
    first, second, third = read_all(closing(log.source(["b"])))
    assert (first.tp, first.key, first.value, first.time_us) == (
        TopicPartition("b", 0),
        b"k",
        b"one",
        1_700_000_000_123_000,
    )
    assert first.headers == (("h", b"\x00\xff"), ("h", b""))
    assert (second.key, second.value, second.headers) == (b"tombstone", None, ())
    assert (third.key, third.value) == (None, b"")
    assert abs(third.time_us - before_us) < 60_000_000
    assert first.offset < second.offset < third.offset


def test_an_abort_leaves_nothing_visible_and_later_commits_are_whole(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer", [A0]))
    with stage.transaction() as transaction:
        transaction.send("b", b"1")
        transaction.commit_inputs({A0: 0}, "before")
    with pytest.raises(ZeroDivisionError), stage.transaction() as transaction:  # noqa: PT012 - the block is the test
        transaction.send("b", b"never")
        transaction.commit_inputs({A0: 5}, "never")
        raise ZeroDivisionError
    with stage.transaction() as transaction:
        transaction.send("b", b"2")
    assert [message.value for message in read_all(closing(log.source(["b"])))] == [b"1", b"2"]
    assert stage.position() == {A0: 0}
    assert stage.note() == "before"


def test_nothing_is_visible_before_the_commit(log: Log, closing: Callable) -> None:
    source = closing(log.source(["b"]))
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        transaction.send("b", b"1")
        assert source.read(timeout_s=0.3) == []
        assert source.bounds(TopicPartition("b", 0))[1] == 0
    assert [message.value for message in source.read(timeout_s=10)] == [b"1"]


def test_offsets_have_gaps_and_the_position_at_the_end_is_the_end(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    for n in range(3):
        with stage.transaction() as transaction:
            transaction.send("b", b"%d" % n)
    source = closing(log.source(["b"]))
    messages = read_all(source)
    tp = TopicPartition("b", 0)
    beginning, end = source.bounds(tp)
    assert beginning == 0
    assert end > messages[-1].offset + 1, "the end of a transaction takes an offset"
    assert messages[1].offset > messages[0].offset + 1
    assert source.position() == {tp: end}
    # The end is a position like any other: reading goes on there, without a gap or a repeat.
    again = closing(log.source(["b"], {tp: end}))
    assert again.read(timeout_s=0.2) == []
    with stage.transaction() as transaction:
        transaction.send("b", b"next")
    assert [message.value for message in again.read(timeout_s=10)] == [b"next"]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_a_saved_position_resumes_without_gap_or_repeat(log: Log, closing: Callable, stop_after: int) -> None:
    stage = closing(log.stage("writer"))
    for n in range(0, 6, 2):
        with stage.transaction() as transaction:
            transaction.send("b", b"%d" % n)
            transaction.send("b", b"%d" % (n + 1))
    source = closing(log.source(["b"]))
    got: list[Message] = []
    while len(got) < stop_after:
        got += source.read(max_messages=1, timeout_s=10)
    saved = source.position()
    rest = read_all(closing(log.source(["b"], saved)))
    assert [message.value for message in [*got, *rest]] == [b"%d" % n for n in range(6)]


def test_read_from_takes_from_one_partition_only_and_loses_nothing_of_the_other(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        for n in range(10):
            transaction.send("a", b"%d" % n, partition=n % 2)
    source = closing(log.source(["a"]))
    odd: list[Message] = []
    while len(odd) < 3:
        odd += source.read_from(A1, 3 - len(odd), timeout_s=5)
    assert [message.value for message in odd] == [b"1", b"3", b"5"]
    assert source.position()[A0] == 0
    rest = read_all(source)
    assert [m.value for m in rest if m.tp == A0] == [b"0", b"2", b"4", b"6", b"8"]
    assert [m.value for m in rest if m.tp == A1] == [b"7", b"9"]


def test_a_source_of_some_partitions_reads_only_those(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        for n in range(4):
            transaction.send("a", b"%d" % n, partition=n % 2)
    assert [m.value for m in read_all(closing(log.source([A1])))] == [b"1", b"3"]


def test_keys_choose_the_partition_of_kafkas_clients(log: Log, closing: Callable) -> None:
    keys = [b"impression-%d" % n for n in range(20)]
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        for key in keys:
            transaction.send("a", key, key=key)
    messages = read_all(closing(log.source(["a"])))
    assert {message.key: message.tp.partition for message in messages} == {key: partition_for(key, 2) for key in keys}


def test_messages_without_key_reach_every_partition(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    for _ in range(4):
        with stage.transaction() as transaction:
            transaction.send("a", b"x")
    assert {message.tp for message in read_all(closing(log.source(["a"])))} == {A0, A1}


def test_seek_goes_back_and_replays_the_same(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("writer"))
    for n in range(5):
        with stage.transaction() as transaction:
            transaction.send("a", b"%d" % n, partition=n % 2)
    source = closing(log.source(["a"]))
    start = source.position()
    first = read_all(source)
    source.seek(start)
    second = read_all(source)
    assert sorted(first) == sorted(second)
    assert len(first) == 5
    source.seek({A0: first[-1].offset if first[-1].tp == A0 else 0})
    assert source.position()[A1] == source.bounds(A1)[1], "a partition that is not named stays where it is"


def test_seek_out_of_range_names_all_three_numbers(log: Log, closing: Callable) -> None:
    source = closing(log.source(["b"]))
    tp = TopicPartition("b", 0)
    with pytest.raises(OutOfRange, match=r"position 7 of b/0 .*\(0 to 0\)"):
        source.seek({tp: 7})
    with pytest.raises(OutOfRange, match=r"position -1 of b/0"):
        source.seek({tp: -1})
    with pytest.raises(OutOfRange, match=r"position 9 of b/0"):
        log.source(["b"], {tp: 9})
    assert source.position() == {tp: 0}, "a refused seek changes nothing"


def test_positions_and_note_are_kept_with_the_output(settings: LogSettings, log: Log, closing: Callable) -> None:
    stage = closing(log.stage("step", [A0, A1]))
    assert stage.position() == {A0: 0, A1: 0}
    assert stage.note() == ""
    with stage.transaction() as transaction:
        transaction.send("b", b"x")
        transaction.commit_inputs({A0: 3}, "first")
    with stage.transaction() as transaction:
        transaction.commit_inputs({A1: 4}, "not this one")
        transaction.commit_inputs({A1: 5}, json.dumps({"é": 1}), {A0: "é of zero", A1: ""})
    with stage.transaction() as transaction:
        transaction.send("b", b"no inputs: keeps position and note")
    for name in ("same stage", "after it was closed", "in another log object"):
        if name == "after it was closed":
            stage.close()
            stage = closing(log.stage("step", [A0, A1]))
        if name == "in another log object":
            stage.close()
            stage = closing(closing(open_log(settings)).stage("step", [A0, A1]))
        assert stage.position() == {A0: 3, A1: 5}, name
        assert json.loads(stage.note()) == {"é": 1}, name
        assert stage.notes() == {A0: "é of zero"}, name
    with stage.transaction() as transaction:
        transaction.commit_inputs({A1: 5}, "", {A1: "only this one"})
    assert (stage.note(), stage.notes()) == ("", {A1: "only this one"}), "a commit replaces all lines"
    other = closing(log.stage("another step", [A0, A1]))
    assert other.position() == {A0: 0, A1: 0}
    assert other.note() == ""
    assert other.notes() == {}


def test_a_newer_stage_fences_the_older_one(log: Log, closing: Callable) -> None:
    old = closing(log.stage("step", [A0]))
    with old.transaction() as transaction:
        transaction.send("b", b"old")
        transaction.commit_inputs({A0: 1}, "old")
    new = closing(log.stage("step", [A0]))
    with pytest.raises(Fenced, match="newer process"), old.transaction() as transaction:  # noqa: PT012
        transaction.send("b", b"zombie")
        transaction.commit_inputs({A0: 9}, "zombie")
    with pytest.raises(Fenced), old.transaction() as transaction:
        transaction.send("b", b"zombie")
    with new.transaction() as transaction:
        transaction.send("b", b"new")
        transaction.commit_inputs({A0: 2}, "new")
    assert [message.value for message in read_all(closing(log.source(["b"])))] == [b"old", b"new"]
    assert (new.position(), new.note()) == ({A0: 2}, "new")
    unrelated = closing(log.stage("step 2", [A0]))
    assert unrelated.position() == {A0: 0}


def test_a_stage_fenced_inside_its_transaction_writes_nothing(log: Log, closing: Callable) -> None:
    old = closing(log.stage("step", [A0]))
    with pytest.raises(Fenced), old.transaction() as transaction:  # noqa: PT012
        transaction.send("b", b"zombie")
        transaction.commit_inputs({A0: 1}, "zombie")
        new = closing(log.stage("step", [A0]))
    assert (new.position(), new.note()) == ({A0: 0}, "")
    assert read_all(closing(log.source(["b"]))) == []


def test_topics_are_made_once_and_never_change_their_count(log: Log) -> None:
    assert log.topics() == {"a": 2, "b": 1}
    assert log.create_topics({"a": 2, "c": 3}) == ["c"]
    with pytest.raises(WrongLog, match="'c' exists with 3 partitions, not 4"):
        log.create_topics({"d": 1, "c": 4})
    assert log.topics() == {"a": 2, "b": 1, "c": 3}, "all or nothing"
    with pytest.raises(StreamError, match="at least 1 partition"):
        log.create_topics({"e": 0})


def test_a_prefix_is_a_world_of_its_own(settings: LogSettings, log: Log, closing: Callable) -> None:
    other = closing(open_log(msgspec.structs.replace(settings, prefix=settings.prefix + "other.")))
    assert other.topics() == {}
    other.create_topics({"b": 1})
    with closing(other.stage("writer")).transaction() as transaction:
        transaction.send("b", b"other")
    assert read_all(closing(log.source(["b"]))) == []
    mine, theirs = closing(log.source(["b"])).identity(), closing(other.source(["b"])).identity()
    assert mine.cluster == theirs.cluster
    assert mine.ids["b"] != theirs.ids["b"]


def test_identity_is_stable_and_names_what_a_position_needs(settings: LogSettings, log: Log, closing: Callable) -> None:
    identity = closing(log.source(["a", "b"])).identity()
    assert identity.partitions == {"a": 2, "b": 1}
    assert len(identity.cluster) > 10
    assert closing(closing(open_log(settings)).source(["a", "b"])).identity() == identity


def test_wrong_calls_are_one_sentence_each(log: Log, closing: Callable) -> None:
    stage = closing(log.stage("step", [A0]))
    for wrong, sentence in [
        (lambda t: t.send("nowhere", b"x"), "topic 'nowhere' does not exist"),
        (lambda t: t.send("a", b"x", partition=2), "has no partition 2; it has 0 to 1"),
        (lambda t: t.send("b", None), "needs a value or a key"),
        (lambda t: t.send("b", b"x" * (MAX_BYTES + 1)), "is more than the 1,000,000"),
        (lambda t: t.commit_inputs({A1: 0}), "a/1 is not an input of this stage"),
        (lambda t: t.commit_inputs({A0: -1}), "must be 0 or more"),
        (lambda t: t.commit_inputs({A0: 0}, "é" * MAX_NOTE), "a note of 8,000 bytes"),
        (lambda t: t.commit_inputs({A0: 0}, "n", {A0: "n" * (MAX_NOTE - 1)}), "a note of 4,001 bytes"),
        (lambda t: t.commit_inputs({A0: 0}, "n", {A1: "n"}), "a/1 is not an input of this stage"),
        (lambda t: t.commit_inputs({A0: 0}, "two\nlines"), "must be one line"),
        (lambda _: stage.transaction().__enter__(), "one transaction at a time"),
    ]:
        with pytest.raises(StreamError, match=sentence), stage.transaction() as transaction:
            wrong(transaction)
    with stage.transaction() as transaction:
        transaction.send("b", b"x" * MAX_BYTES)
        transaction.commit_inputs({A0: 0}, "n" * MAX_NOTE)
    assert stage.note() == "n" * MAX_NOTE
    with pytest.raises(StreamError, match="has ended"):
        transaction.send("b", b"late")
    with pytest.raises(StreamError, match="without inputs"), closing(log.stage("w")).transaction() as transaction:
        transaction.commit_inputs({A0: 0})
    for partitions in (["nowhere"], [TopicPartition("a", 2)], ["a", A0], "a"):
        with pytest.raises(StreamError):
            log.source(partitions)
    with pytest.raises(StreamError, match="is not a partition of this source"):
        closing(log.source([A0])).read_from(A1)
    assert len(read_all(closing(log.source(["b"])))) == 1


def test_a_compacted_topic_is_read_over_its_holes(log: Log, closing: Callable) -> None:
    """Against a plain dict of the newest value of each key, in the order of writing. A broker may start at any time."""
    log.create_topics({"items": 1}, configs={"items": COMPACT_SOON})
    stage = closing(log.stage("writer"))
    chance = random.Random(2)
    newest: dict[bytes, bytes | None] = {}

    def write(values: dict[bytes, bytes | None]) -> None:
        with stage.transaction() as transaction:
            for key, value in values.items():
                transaction.send("items", value, key=key)
            if chance.random() < 0.2:
                raise ZeroDivisionError
        for key, value in values.items():
            newest.pop(key, None)
            newest[key] = value

    for n in range(60):
        with suppress(ZeroDivisionError):
            write({b"item-%d" % key: b"%d" % n for key in chance.sample(range(9), chance.randrange(1, 4))})
    chance.seed(2)
    write({b"item-3": None})  # a tombstone that is the newest of its key
    compacted(log, "items")
    source = closing(log.source(["items"]))
    left = read_all(source)
    assert [(message.key, message.value) for message in left] == list(newest.items())
    tp = TopicPartition("items", 0)
    beginning, end = source.bounds(tp)
    assert beginning == 0, "nothing moves but what is gone"
    assert source.position() == {tp: end}
    assert left[0].offset > 50
    for offset in chance.sample(range(end), 25):
        source.seek({tp: offset})
        assert read_all(source) == [message for message in left if message.offset >= offset], offset


def test_a_waiting_reader_wakes_up_soon_after_a_commit(log: Log, closing: Callable) -> None:
    source = closing(log.source(["b"]))
    stage = closing(log.stage("writer"))
    with stage.transaction() as transaction:
        transaction.send("b", b"warm-up")
    read_all(source)

    def write() -> None:
        time.sleep(0.3)
        with stage.transaction() as transaction:
            transaction.send("b", b"late")

    thread = threading.Thread(target=write)
    started = time.monotonic()
    thread.start()
    messages = source.read(timeout_s=15)
    seconds = time.monotonic() - started
    thread.join()
    assert [message.value for message in messages] == [b"late"]
    assert 0.3 <= seconds < 14


def test_an_empty_read_keeps_to_its_timeout(log: Log, closing: Callable) -> None:
    source = closing(log.source(["a"]))
    for read in (lambda: source.read(10, 0.3), lambda: source.read_from(A0, 10, 0.3)):
        started = time.monotonic()
        assert read() == []
        assert 0.25 <= time.monotonic() - started < 15
    started = time.monotonic()
    assert source.read(10, 0.0) == []
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("shared", [False, True])
def test_a_topic_outside_of_the_prefix_is_read_under_its_whole_name(
    log: Log, settings: LogSettings, closing: Callable[..., Any], shared: bool
) -> None:
    """Position and output are one transaction, as for a topic of this log's own."""
    theirs = closing(open_log(msgspec.structs.replace(settings, prefix=f"x{uuid.uuid4().hex[:8]}.")))
    theirs.create_topics({"views": 2})
    writer = closing(theirs.stage("shop"))
    with writer.transaction() as transaction:
        for n in range(4):
            transaction.send("views", b"%d" % n, partition=n % 2)
    name = outside(settings.prefix, f"{theirs.prefix}views")
    assert name == f"/{theirs.prefix}views"
    assert name not in log.topics(), "it is not one of ours"
    inputs = [TopicPartition(name, n) for n in (0, 1)]
    stage = closing(log.stage("translate", inputs, shared=shared))
    source = closing(log.source(inputs, stage.position()))
    found: list[Message] = []
    while len(found) < 4:
        found += source.read(10, 5.0)
    assert sorted(message.value or b"" for message in found) == [b"0", b"1", b"2", b"3"]
    assert {message.tp for message in found} == set(inputs)
    assert source.identity().partitions == {name: 2}
    with stage.transaction() as transaction:
        transaction.send("a", b"translated")
        transaction.commit_inputs(source.position())
    stage.close()
    again = closing(log.stage("translate", inputs, shared=shared))
    assert again.position() == source.position() == {tp: source.bounds(tp)[1] for tp in inputs}
    with pytest.raises(StreamError, match="does not exist"):
        log.source(["/nobody.has.this"])

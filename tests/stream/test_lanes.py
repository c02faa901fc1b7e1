"""Lanes, held against a plain model: examples written n -> lane n mod L come back in the order they were written."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from recdistill.errors import CheckpointError, OutOfRange, StreamError, WrongLog
from recdistill.records import Candidate, Event, Example, Impression, Ranking, encode
from recdistill.stream import LanePosition, Lanes, Log, Message, TopicPartition
from recdistill.stream import lanes as lanes_module
from recdistill.stream.embedded import EmbeddedLog


def example(name: str) -> bytes:
    impression = Impression(id=name, time_us=1, candidates=(Candidate(item="a"),))
    return encode(Example(Ranking(impression, "t", "1", "unbounded", (1.0,), (True,)), labels=(0.0,)))


def names(examples: list[Example]) -> list[str]:
    return [each.ranking.impression.id for each in examples]


def saved_and_read(position: LanePosition) -> LanePosition:
    """As a checkpoint does: through JSON."""
    return LanePosition.read(json.loads(msgspec.json.encode(position)))


def never(message: Message, error: Exception) -> None:
    raise AssertionError(f"unexpected dead letter {message}: {error}")


class Writer:
    """Writes example n into lane n mod L, in transactions of uneven size, some of them aborted."""

    def __init__(self, log: Log, lanes: int, seed: int = 0) -> None:
        self.stage = log.stage("joiner")
        self.lanes = lanes
        self.written: list[str] = []
        self.random = random.Random(seed)

    def write(self, count: int) -> None:
        target = len(self.written) + count
        while len(self.written) < target:
            size = min(self.random.randint(1, 5), target - len(self.written))
            first = len(self.written)
            try:
                with self.stage.transaction() as transaction:
                    for n in range(first, first + size):
                        transaction.send("examples", example(f"e{n}"), partition=n % self.lanes)
                    if self.random.random() < 0.3:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                continue
            self.written += [f"e{n}" for n in range(first, first + size)]

    def junk(self) -> None:
        n = len(self.written)
        with self.stage.transaction() as transaction:
            transaction.send("examples", b"\x00junk", partition=n % self.lanes)
        self.written.append("junk")


@pytest.fixture(params=[1, 3])
def lanes_count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def log(tmp_path: Path, lanes_count: int) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(tmp_path / "log.sqlite")
    opened.create_topics({"examples": lanes_count, "other": lanes_count})
    yield opened
    opened.close()


@pytest.fixture
def writer(log: EmbeddedLog, lanes_count: int) -> Iterator[Writer]:
    opened = Writer(log, lanes_count)
    yield opened
    opened.stage.close()


def test_the_order_is_that_of_writing_whatever_the_batches(log: EmbeddedLog, writer: Writer) -> None:
    writer.write(50)
    for sizes in ([50], [1] * 50, [7, 13, 2, 28]):
        lanes = Lanes(log, dead_letters=never)
        got: list[str] = []
        for size in sizes:
            batch = names(lanes.next(size))
            assert len(batch) == size
            got += batch
        assert got == writer.written
        lanes.close()


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 10, 29])
def test_a_resumed_reader_goes_on_with_the_next_example(log: EmbeddedLog, writer: Writer, stop_after: int) -> None:
    writer.write(30)
    lanes = Lanes(log, dead_letters=never)
    first = names(lanes.next(stop_after))
    state = saved_and_read(lanes.state())
    lanes.next(5, timeout_s=0)  # read, but never saved: as good as not read
    lanes.close()
    resumed = Lanes(log, state=state, dead_letters=never)
    assert resumed.state() == state
    assert first + names(resumed.next(100, timeout_s=0.05)) == writer.written
    resumed.close()


def test_the_reader_waits_for_the_lane_whose_turn_it_is(log: EmbeddedLog, lanes_count: int) -> None:
    stage = log.stage("odd writer")
    with stage.transaction() as transaction:
        for n in range(6):
            transaction.send("examples", example(f"last{n}"), partition=lanes_count - 1)
    lanes = Lanes(log, dead_letters=never)
    if lanes_count == 1:
        assert len(lanes.next(100, timeout_s=0)) == 6
    else:
        assert lanes.next(100, timeout_s=0.05) == []
        for lane in range(lanes_count - 1):
            with stage.transaction() as transaction:
                transaction.send("examples", example(f"lane{lane}"), partition=lane)
        assert names(lanes.next(100, timeout_s=0.05)) == [*(f"lane{n}" for n in range(lanes_count - 1)), "last0"]
        assert lanes.state().turn == 0
    lanes.close()
    stage.close()


def test_a_record_that_does_not_decode_takes_its_turn(log: EmbeddedLog, writer: Writer) -> None:
    letters: list[Message] = []
    writer.write(4)
    writer.junk()
    writer.write(4)
    writer.junk()
    writer.junk()
    writer.write(2)
    lanes = Lanes(log, dead_letters=lambda message, _: letters.append(message))
    got = names(lanes.next(100, timeout_s=0.05))
    assert got == [name for name in writer.written if name != "junk"]
    assert [letter.value for letter in letters] == [b"\x00junk"] * 3
    lanes.close()


def test_a_dead_letter_that_cannot_be_written_is_not_passed(log: EmbeddedLog, writer: Writer) -> None:
    writer.write(4)
    writer.junk()
    writer.write(4)
    failures = iter([True, True])
    letters = []

    def refuse_twice(message: Message, _: Exception) -> None:
        if next(failures, False):
            raise OSError("disk full")
        letters.append(message)

    lanes = Lanes(log, dead_letters=refuse_twice)
    assert names(lanes.next(2)) == writer.written[:2]
    state = lanes.state()
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            lanes.next(100, timeout_s=0.05)
        assert lanes.state() == state, "examples that the caller never saw count as not taken"
    assert names(lanes.next(100, timeout_s=0.05)) == [name for name in writer.written[2:] if name != "junk"]
    assert len(letters) == 1
    lanes.close()


def test_until_is_a_hard_end_and_reached_tells(log: EmbeddedLog, writer: Writer) -> None:
    writer.write(11)
    lanes = Lanes(log, dead_letters=never)
    start, ends = lanes.state(), saved_and_read(lanes.end_state())
    writer.write(20)
    for _ in range(3):  # several passes over the same range
        got: list[str] = []
        while not lanes.reached(ends):
            got += names(lanes.next(4, timeout_s=0.05, until=ends))
        assert got == writer.written[:11]
        assert lanes.next(4, timeout_s=5, until=ends) == []
        lanes.seek(start)
    assert names(lanes.next(100, timeout_s=0.05)) == writer.written
    lanes.close()


def test_reached_on_an_empty_range(log: EmbeddedLog) -> None:
    lanes = Lanes(log, dead_letters=never)
    ends = lanes.end_state()
    assert lanes.reached(ends)
    assert lanes.next(3, timeout_s=5, until=ends) == []
    lanes.close()


def test_states_of_another_log_are_refused(tmp_path: Path, log: EmbeddedLog, writer: Writer, lanes_count: int) -> None:
    writer.write(9)
    lanes = Lanes(log, dead_letters=never)
    lanes.next(5)
    state = msgspec.to_builtins(lanes.state())
    lanes.close()

    def resume(other: Log, changed: dict, topic: str = "examples") -> None:
        Lanes(other, topic, state=LanePosition.read(changed), dead_letters=never)

    other = EmbeddedLog(tmp_path / "other.sqlite")
    other.create_topics({"examples": lanes_count})
    with pytest.raises(
        WrongLog, match=f"this log is '{other.cluster}', but the saved position is for log '{log.cluster}'"
    ):
        resume(other, state)
    with pytest.raises(WrongLog, match="topic 'examples' of the saved position"):
        resume(log, state, "other")
    with pytest.raises(OutOfRange, match="position 1000 of examples/0"):
        resume(log, {**state, "offsets": [1000, *state["offsets"][1:]]})
    for changes in (
        {"offsets": [*state["offsets"], 0]},
        {"turn": lanes_count},
        {"turn": -1},
        {"turn": "0"},
        {"offsets": None},
        {"more": 1},
        {"identity": {}},
        {"identity": {**state["identity"], "partitions": {}}},
    ):
        with pytest.raises(CheckpointError, match="saved position"):
            resume(log, {**state, **changes})
    other.close()


def test_a_position_has_the_json_of_older_checkpoints_and_manifests(log: EmbeddedLog, lanes_count: int) -> None:
    lanes = Lanes(log, dead_letters=never)
    identity = {
        "cluster": log.cluster,
        "partitions": {"examples": lanes_count},
        "ids": log.identity(["examples"]).ids,
    }
    old = {"identity": identity, "offsets": [0] * lanes_count, "turn": 0}  # as the first version wrote it
    assert json.loads(msgspec.json.encode(lanes.state())) == old
    assert json.loads(json.dumps(msgspec.to_builtins(lanes.state()))) == old
    assert LanePosition.read(old) == lanes.state()
    assert lanes.state().by_partition() == {TopicPartition("examples", n): 0 for n in range(lanes_count)}
    lanes.close()


def test_retention_that_overtakes_the_reader_is_an_error(log: EmbeddedLog, writer: Writer) -> None:
    writer.write(30)
    lanes = Lanes(log, dead_letters=never)
    state = lanes.state()
    lanes.close()
    log.trim(TopicPartition("examples", 0), 5)
    with pytest.raises(OutOfRange, match=r"position 0 of examples/0 is outside of what the log holds \(5 to \d+\)"):
        Lanes(log, state=state, dead_letters=never)


@pytest.mark.kafka
def test_lanes_on_kafka_survive_aborts_and_resume(kafka_brokers: str) -> None:
    from recdistill.stream.kafka import KafkaLog

    log = KafkaLog(kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}.")
    log.create_topics({"examples": 3})
    writer = Writer(log, 3, seed=1)
    writer.write(40)
    lanes = Lanes(log, dead_letters=never)
    start, ends = lanes.state(), lanes.end_state()
    got = names(lanes.next(17, timeout_s=20))
    state = saved_and_read(lanes.state())
    lanes.close()
    lanes = Lanes(log, state=state, dead_letters=never)
    while not lanes.reached(ends):
        got += names(lanes.next(5, timeout_s=1, until=ends))
    assert got == writer.written
    lanes.seek(start)
    assert names(lanes.next(40, timeout_s=20, until=ends)) == writer.written
    lanes.close()
    lanes = Lanes(log, dead_letters=never, ahead=True)  # a thread and the caller use the consumer in turn
    prepared: list[str] = []
    while not lanes.reached(ends):
        prepared += lanes.next_columns(4, timeout_s=1, until=ends).ids
    assert prepared == writer.written
    for thing in (lanes, writer.stage, log):
        thing.close()


def test_columns_are_the_same_examples_and_refuse_the_same(log: EmbeddedLog, writer: Writer) -> None:
    """In the same order, with the same states between, whatever the batches, and also where a caller refuses some."""

    def refuse(_: int) -> Exception | None:
        asked.append(1)
        return StreamError("the seventh") if len(asked) % 7 == 0 else None

    for size in (3, 1, 2, 9, 4):
        writer.write(size)
        writer.junk()
    found = []
    for columns, ahead in ((False, False), (True, False), (True, True)):
        asked: list[int] = []
        letters: list[tuple[int, int, str]] = []
        lanes = Lanes(
            log,
            dead_letters=lambda message, error, to=letters: to.append((*message.tp[1:], message.offset, str(error))),
            refuse=refuse,
            ahead=ahead,
        )
        end, steps = lanes.end_state(), []
        for size in (5, 1, 2, 40):
            got = lanes.next_columns(size, 0, until=end).ids if columns else names(lanes.next(size, 0, until=end))
            steps.append((got, lanes.state(), lanes.reached(end)))
        lanes.close()
        found.append((steps, letters, len(asked)))
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) == 5 + 2  # five were junk, and two refused


@pytest.mark.parametrize("ahead", [False, True])
def test_columns_are_not_passed_when_a_dead_letter_cannot_be_written(
    log: EmbeddedLog, writer: Writer, ahead: bool
) -> None:
    def fail_once(message: Message, _: Exception) -> None:
        letters.append(message.offset)
        if len(letters) == 1:
            raise StreamError("the log is away")

    letters: list[int] = []
    writer.write(4)
    writer.junk()
    writer.write(3)
    lanes = Lanes(log, dead_letters=fail_once, ahead=ahead)
    before = lanes.state()
    with pytest.raises(StreamError, match="away"):
        lanes.next_columns(7, 0.05)
    assert lanes.state() == before
    assert lanes.next_columns(7, 0.05).ids == [name for name in writer.written if name != "junk"]
    assert letters[0] == letters[1]
    lanes.close()


def test_what_is_prepared_moves_no_state_and_is_not_taken_where_it_does_not_fit(
    log: EmbeddedLog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    read_columns = lanes_module.read_columns

    def counted(kind: type[Example], values: list[bytes]) -> object:
        found = read_columns(kind, values)
        if values:
            read.append(found.columns.ids)
        return found

    monkeypatch.setattr(lanes_module, "read_columns", counted)
    writer.write(30)
    lanes = Lanes(log, dead_letters=never, ahead=True)
    start = lanes.state()
    assert lanes.next_columns(6).ids == writer.written[:6]
    after, end = lanes.state(), lanes.end_state()  # asks the log, so the thread is done
    assert read == [writer.written[:6], writer.written[6:12]]
    assert lanes.next_columns(6).ids == writer.written[6:12]
    lanes.reached(end)
    assert read[2:] == [writer.written[12:18]]  # and those that were prepared were not decoded again
    assert lanes.next_columns(2).ids == writer.written[12:14]  # another size
    lanes.seek(after)
    assert lanes.state() == after
    assert lanes.next_columns(24, until=end).ids == writer.written[6:]
    lanes.seek(start)
    got: list[str] = []
    while not lanes.reached(end):
        got += lanes.next_columns(7, 0.05, until=end).ids
    assert got == writer.written
    lanes.close()


def test_what_the_thread_meets_is_told(log: EmbeddedLog, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(8)
    lanes = Lanes(log, dead_letters=never, ahead=True)
    monkeypatch.setattr(lanes, "_peek", fails)
    assert lanes.next_columns(4).ids == writer.written[:4]
    state = lanes.state()
    with pytest.raises(StreamError, match="the disk is away"):
        lanes.next_columns(4)
    assert lanes.state() == state
    assert lanes.next_columns(4).ids == writer.written[4:]
    lanes.close()


def fails(_: int) -> None:
    raise StreamError("the disk is away")


@pytest.mark.slow
def test_a_reader_that_stands_still_holds_a_bounded_part_of_the_log(tmp_path: Path) -> None:
    """Large records: of 26 MB about 8 are held, and no more however long the reader waits."""
    log = EmbeddedLog(tmp_path / "log.sqlite")
    log.create_topics({"examples": 1})
    history = tuple(Event(f"{n:06}" + "x" * 90, n + 1) for n in range(3_000))
    value = encode(Example(Ranking(Impression("r", 9_000, history=history), "t", "1", "logit", (), ()), ()))
    stage = log.stage("joiner")
    for _ in range(8):
        with stage.transaction() as transaction:
            for _ in range(10):
                transaction.send("examples", value, partition=0)
    stage.close()
    lanes = Lanes(log, dead_letters=never, ahead=True)
    for _ in range(3):
        lanes.next_columns(4)
    lanes.reached(lanes.end_state())
    tracemalloc.start()
    lanes.next_columns(4)
    lanes.reached(lanes.end_state())
    held = tracemalloc.get_traced_memory()[0]
    time.sleep(0.3)
    lanes.reached(lanes.end_state())
    assert tracemalloc.get_traced_memory()[0] <= held + 100_000
    tracemalloc.stop()
    assert sum(len(message.value or b"") for fetched in lanes._fetched for message in fetched) <= 9 << 20
    lanes.close()
    log.close()

"""A stage that several processes share, on both logs: a position belongs to an input, and so does the fence."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from recdistill.config import LogSettings
from recdistill.errors import Fenced, LostPosition, StreamError
from recdistill.stream import Log, Message, TopicPartition, open_log

IN = [TopicPartition("a", n) for n in range(4)]


@pytest.fixture
def log(settings: LogSettings) -> Iterator[Log]:
    opened = open_log(settings)
    opened.create_topics({"a": 4, "b": 1})
    yield opened
    opened.close()


@pytest.fixture
def opened(log: Log) -> Iterator[Callable[..., object]]:
    """Opens the shared stage with some inputs; it is closed at the end of the test."""
    stages: list[object] = []

    def take(*numbers: int, formerly: tuple[str, ...] = ()) -> object:
        stages.append(log.stage("s", [IN[n] for n in numbers], shared=True, formerly=formerly))
        return stages[-1]

    yield take
    for stage in reversed(stages):
        stage.close()  # type: ignore[attr-defined]


def write(stage, value: bytes, **position: int) -> None:  # type: ignore[no-untyped-def]
    with stage.transaction() as transaction:
        transaction.send("b", value)
        transaction.commit_inputs({IN[int(name[1:])]: offset for name, offset in position.items()})


def written(log: Log) -> list[bytes]:
    source = log.source(["b"])
    [tp] = source.position()
    messages: list[Message] = []
    while source.position()[tp] < source.bounds(tp)[1]:
        messages += source.read(100, 0.2)
    source.close()
    return [message.value or b"" for message in messages]


def test_a_position_goes_along_with_its_input(log: Log, opened: Callable) -> None:
    one = opened(0, 1, 2, 3)
    write(one, b"1", p0=3, p1=5)
    left, right = opened(0, 2), opened(1, 3)
    assert (left.position(), right.position()) == ({IN[0]: 3, IN[2]: 0}, {IN[1]: 5, IN[3]: 0})
    write(left, b"2", p0=4, p2=7)
    write(right, b"3", p3=9)
    four = [opened(n) for n in range(4)]
    assert [stage.position()[IN[n]] for n, stage in enumerate(four)] == [4, 5, 7, 9]
    write(four[2], b"4", p2=8)
    assert opened(0, 1, 2, 3).position() == {IN[0]: 4, IN[1]: 5, IN[2]: 8, IN[3]: 9}
    assert written(log) == [b"1", b"2", b"3", b"4"]


def test_who_has_lost_one_input_is_fenced_and_the_others_are_not(log: Log, opened: Callable) -> None:
    old, other = opened(0, 1), opened(2, 3)
    write(old, b"old", p0=1, p1=1)
    newer = opened(1)
    with pytest.raises(Fenced, match="newer process has taken over"):
        write(old, b"never", p0=2)
    with pytest.raises(Fenced):
        write(old, b"never", p0=2)
    write(other, b"other", p2=1)
    write(newer, b"newer", p1=2)
    assert opened(0).position() == {IN[0]: 1}
    assert written(log) == [b"old", b"other", b"newer"]


def test_one_that_is_paused_in_its_transaction_writes_nothing(log: Log, opened: Callable) -> None:
    old = opened(0, 1, 2, 3)
    with pytest.raises(Fenced), old.transaction() as transaction:  # noqa: PT012 - the block is the test
        transaction.send("b", b"never")
        transaction.commit_inputs({IN[1]: 9})
        newer = opened(1, 3)
        assert newer.position() == {IN[1]: 0, IN[3]: 0}
    write(newer, b"newer", p1=2)
    assert written(log) == [b"newer"]


def test_notes_are_for_single_inputs_and_those_of_others_stay(opened: Callable) -> None:
    one, two = opened(0), opened(1)
    for stage, tp in ((one, IN[0]), (two, IN[1])):
        with stage.transaction() as transaction:
            transaction.commit_inputs({tp: 1}, notes={tp: f"of {tp}"})
    assert opened(0, 1).notes() == {IN[0]: "of a/0", IN[1]: "of a/1"}
    with pytest.raises(StreamError, match="has notes for single inputs only"), opened(0).transaction() as transaction:
        transaction.commit_inputs({IN[0]: 1}, "for all")


def test_positions_of_an_older_version_are_taken_over_once(log: Log, opened: Callable) -> None:
    """One worker had all four inputs. Then there were two, and they did a part again. The furthest counts."""
    names = ("s-0", "s-1", "s-2", "s-3")
    old = log.stage("s-0", IN)
    write(old, b"1", p0=10, p1=20, p2=30)
    old.close()
    second, again = log.stage("s-1", [IN[1], IN[3]]), log.stage("s-0", [IN[0], IN[2]])
    write(second, b"2", p1=7, p3=4)
    write(again, b"3", p0=12)
    one = opened(0, 1, formerly=names)
    assert one.position() == {IN[0]: 12, IN[1]: 20}
    for zombie, tp in ((again, "p0"), (second, "p1")):
        with pytest.raises(Fenced):
            write(zombie, b"never", **{tp: 99})
    write(one, b"4", p0=13)
    # It was decided: what comes under an old name later does not count.
    rogue = log.stage("s-0", IN)
    write(rogue, b"rogue", p0=50, p1=50)
    rogue.close()
    assert opened(0, 1, 2, 3, formerly=names).position() == {IN[0]: 13, IN[1]: 20, IN[2]: 30, IN[3]: 4}
    for stage in (second, again):
        stage.close()
    assert written(log) == [b"1", b"2", b"3", b"4", b"rogue"]


def test_an_input_that_nobody_had_begins_at_its_beginning(log: Log, opened: Callable) -> None:
    old = log.stage("s-0", IN[:2])
    write(old, b"1", p0=10)
    old.close()
    assert opened(0, 1, 2, formerly=("s-0", "s-7")).position() == {IN[0]: 10, IN[1]: 0, IN[2]: 0}


def test_an_idle_process_of_the_stage_disturbs_nobody(log: Log, opened: Callable) -> None:
    busy, idle = opened(0, 1, 2, 3), opened()
    write(busy, b"1", p0=1)
    assert idle.position() == {}
    write(busy, b"2", p0=2)
    assert written(log) == [b"1", b"2"]


@pytest.mark.kafka
def test_one_that_died_while_it_took_over_hides_nobody(kafka_brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has written its name, and has not fenced the owner before it. The next one knows both."""
    from recdistill.stream.kafka.owners import SharedOwner

    log = open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=f"t{uuid.uuid4().hex[:8]}."))
    log.create_topics({"a": 4, "b": 1})
    zombie = log.stage("s", [IN[0], IN[1]], shared=True)
    write(zombie, b"1", p0=1)
    fence = SharedOwner.fence
    with monkeypatch.context() as patch:
        patch.setattr(SharedOwner, "fence", lambda *_: (_ for _ in ()).throw(StreamError("died")))
        with pytest.raises(StreamError, match="died"):
            log.stage("s", [IN[1]], shared=True)
    fenced: list[str] = []
    monkeypatch.setattr(SharedOwner, "fence", lambda self, ids, *more: (fenced.extend(ids), fence(self, ids, *more)))
    heir = log.stage("s", [IN[1], IN[2]], shared=True)
    assert [name.rpartition(".")[2] for name in fenced] == ["a-0"]
    with pytest.raises(Fenced):
        write(zombie, b"never", p1=1)
    write(heir, b"2", p1=2)
    heir.close()
    # Once the new owner has written, only its own id is known.
    fenced.clear()
    log.stage("s", [IN[1]], shared=True).close()
    assert [name.rpartition(".")[2] for name in fenced] == []  # the same id: it has the same first input
    assert written(log) == [b"1", b"2"]
    log.close()


@pytest.mark.kafka
def test_a_position_that_the_broker_forgot_is_not_taken_for_a_new_input(kafka_brokers: str) -> None:
    """Another number of processes asks for it, and under an older name."""
    import kafka

    prefix = f"t{uuid.uuid4().hex[:8]}."
    log = open_log(LogSettings(kind="kafka", brokers=kafka_brokers, prefix=prefix))
    log.create_topics({"a": 4, "b": 1})
    old = log.stage("s-1", [IN[3]])
    write(old, b"0", p3=6)
    old.close()
    for numbers in ((0, 2), (1,)):
        stage = log.stage("s", [IN[n] for n in numbers], shared=True)
        write(stage, b"1", **{f"p{n}": n + 5 for n in numbers})
        stage.close()
    admin = kafka.KafkaAdminClient(bootstrap_servers=kafka_brokers)
    wires = [kafka.TopicPartition(f"{prefix}a", n) for n in range(4)]
    for group in ("s", "s-1"):
        admin.delete_group_offsets(prefix + group, wires)
    admin.close()
    stage = log.stage("s", IN, shared=True, formerly=("s-0", "s-1"))
    with pytest.raises(LostPosition, match="go on exactly there with `--from a/0:5,a/1:6,a/2:7,a/3:6`"):
        stage.position()
    stage.close()
    log.close()

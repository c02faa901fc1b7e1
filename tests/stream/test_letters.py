"""Dead letters always fit, and a batch is written without what the log refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.config import LogSettings
from recdistill.errors import DecodeError, StreamError, Unwritable
from recdistill.limits import MAX_BYTES, MAX_HEADERS
from recdistill.stream import Delivery, Log, Message, Outgoing, TopicPartition, dead_letter, deliver, open_log
from recdistill.stream.testing import everything
from recdistill.stream.transaction import Collected, check_message, check_size, size_of

FEEDBACK = TopicPartition("feedback", 3)
WHY = DecodeError("not a feedback")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics({"feedback": 1, "examples": 2, "dead-letters": 1})
    yield log
    log.close()


sizes = st.one_of(st.none(), st.integers(0, 3_000), st.sampled_from([999_000, MAX_BYTES, MAX_BYTES + 1, 1_048_000]))
parts = sizes.map(lambda size: None if size is None else b"x" * size)
headers = st.lists(
    st.tuples(st.text(max_size=20), st.integers(0, 40_000).map(lambda size: b"h" * size)), max_size=4
).map(tuple)


@tries(150)
@given(key=parts, value=parts, about=headers, reason=st.text(max_size=5_000), shorter=st.integers(0, 4))
def test_every_letter_fits_and_says_where_the_whole_is(
    key: bytes | None, value: bytes | None, about: tuple[tuple[str, bytes], ...], reason: str, shorter: int
) -> None:
    message = Message(FEEDBACK, 17, key, value, 5, about)
    letter = dead_letter(message, DecodeError(reason), "join", shorter=shorter)
    check_size("dead-letters", letter.value, letter.key, letter.headers)
    check_message("dead-letters", letter.value, letter.key, None, 1, 0)
    said = dict(letter.headers)
    assert (said["topic"], said["partition"], said["offset"], said["stage"]) == (b"feedback", b"3", b"17", b"join")
    assert said["error"].startswith(b"DecodeError: ")
    if "sha256" in said:
        whole = value or b""
        assert int(said["bytes"]) == len(whole)
        assert said["sha256"].decode() == hashlib.sha256(whole).hexdigest()
        assert whole.startswith(letter.value or b"")
    else:
        assert (letter.value or b"") == (value or b"")
    if shorter == 4:
        assert len(letter.value or b"") + len(letter.key or b"") + size_of(letter.headers) < 1_000


def test_a_dead_letter_is_the_original_bytes_and_where_they_came_from() -> None:
    message = Message(TopicPartition("feedback", 3), 41, b"key", b"\x00junk", 1_000, (("schema", b"7"),))
    key, value, headers = dead_letter(message, DecodeError("too short"), "joiner")
    assert key == b"key"
    assert value == b"\x00junk"
    assert dict(headers) == {
        "topic": b"feedback",
        "partition": b"3",
        "offset": b"41",
        "time_us": b"1000",
        "stage": b"joiner",
        "error": b"DecodeError: too short",
        "key": b"key",
        "original.schema": b"7",
    }
    long_error = dict(dead_letter(message, DecodeError("x" * 10_000), "joiner").headers)["error"]
    assert len(long_error) == 2_000


def test_what_fits_is_whole_with_its_headers() -> None:
    message = Message(FEEDBACK, 17, b"r-1", b"x" * (MAX_BYTES - 3), 5, (("trace", b"42"),))
    letter = dead_letter(message, WHY, "join")
    assert (letter.key, letter.value) == (b"r-1", message.value)
    assert dict(letter.headers)["original.trace"] == b"42"
    assert "sha256" not in dict(letter.headers)
    many = message._replace(headers=(("trace", b"4" * MAX_HEADERS),))
    assert dict(dead_letter(many, WHY, "join").headers)["original_headers_left_out"] == b"1"


class Refusing:
    """A stage of a real log whose broker takes less of some topics, and says so at the commit, as Kafka does."""

    def __init__(self, log: Log, most: dict[str, int]) -> None:
        self._stage, self._most, self.attempts = log.stage("narrow", [TopicPartition("feedback", 0)]), most, 0

    @contextmanager
    def transaction(self) -> Generator[Collected]:
        self.attempts += 1
        with self._stage.transaction() as transaction:
            yield transaction  # type: ignore[misc]
            places = [
                place
                for place, row in enumerate(transaction.rows)  # type: ignore[attr-defined]
                if len(row.value or b"") + size_of(row.headers) > self._most.get(row.tp.topic, MAX_BYTES)
            ]
            if places:  # a client stops at the first one
                raise Unwritable("the broker refuses a message", (places[0],))

    def close(self) -> None:
        self._stage.close()


def _batch(*sizes: int) -> list[Outgoing]:
    source = Message(TopicPartition("feedback", 0), 0, b"k", b"the input", 5)
    return [
        Outgoing("examples", b"%d" % n + b"x" * size, key=b"k", source=source._replace(offset=n))
        for n, size in enumerate(sizes)
    ]


def test_what_the_log_refuses_is_a_letter_of_the_same_transaction(log: Log) -> None:
    turns: list[int] = []

    def prepare(refused: object) -> Delivery:
        turns.append(len(refused))  # type: ignore[arg-type]
        return Delivery(
            _batch(10, MAX_BYTES, 20),
            [(Message(FEEDBACK, 9, None, None, 5), WHY)],
            {TopicPartition("feedback", 0): 0},
            "n",
        )

    with closing(log.stage("s", [TopicPartition("feedback", 0)])) as stage:
        refused = deliver(stage, "join", prepare)
        assert stage.note() == "n"
    assert list(refused) == [1]
    assert turns == [0, 1], "it is asked again, knowing what is refused"
    assert [message.value[:1] for message in everything(log, "examples")] == [b"0", b"2"]  # type: ignore[index]
    letters = [(dict(m.headers)["offset"], m.value) for m in everything(log, "dead-letters")]
    assert letters == [(b"9", b""), (b"1", b"the input")]
    offsets = [message.offset for message in everything(log, "examples")]
    assert offsets == [0, 1], "nothing was tried in vain"


@pytest.mark.parametrize("most_of_a_letter", [MAX_BYTES, 70_000, 6_000, 1_200, 700])
def test_a_broker_with_narrow_topics_is_written_as_far_as_it_takes(log: Log, most_of_a_letter: int) -> None:
    stage = Refusing(log, {"examples": 500, "dead-letters": most_of_a_letter})
    batch = [
        one._replace(source=one.source and one.source._replace(value=b"y" * 400_000))
        for one in _batch(10, 600, 20, 900)
    ]
    refused = deliver(stage, "join", lambda _: Delivery(batch))  # type: ignore[arg-type]
    stage.close()
    assert sorted(refused) == [1, 3]
    assert [message.value[:1] for message in everything(log, "examples")] == [b"0", b"2"]  # type: ignore[index]
    letters = everything(log, "dead-letters")
    assert [dict(letter.headers)["offset"] for letter in letters] == [b"1", b"3"]
    for letter in letters:
        assert len(letter.value or b"") + size_of(letter.headers) <= most_of_a_letter
        assert most_of_a_letter < 400_000 or letter.value == b"y" * 400_000
        assert most_of_a_letter >= 400_000 or dict(letter.headers)["bytes"] == b"400000"


def test_a_topic_that_takes_no_letter_at_all_is_one_sentence(log: Log) -> None:
    stage = Refusing(log, {"dead-letters": 100})
    with pytest.raises(
        StreamError, match="not even a dead letter without its record is taken: raise max.message.bytes"
    ):
        deliver(stage, "join", lambda _: Delivery(dead=[(Message(FEEDBACK, 9, None, b"v", 5), WHY)]))  # type: ignore[arg-type]
    stage.close()
    assert everything(log, "dead-letters") == []


def test_a_log_that_takes_not_even_the_present_time_is_said_at_once(log: Log) -> None:
    """The clock of this machine is wrong then. No record is at fault, so none becomes a dead letter."""
    tried: list[list[int]] = []

    class Elsewhen(Refusing):
        @contextmanager
        def transaction(self) -> Generator[Collected]:
            with self._stage.transaction() as transaction:
                yield transaction  # type: ignore[misc]
                tried.append([row.time_us for row in transaction.rows])  # type: ignore[attr-defined]
                raise Unwritable("compare the clock of this machine", (0, 1), untimely=True)

    stage = Elsewhen(log, {})
    with pytest.raises(StreamError, match="compare the clock of this machine"):
        deliver(stage, "join", lambda _: Delivery(_batch(10, 20)))  # type: ignore[arg-type]
    stage.close()
    assert tried[0] == [5, 5]
    assert all(time_us > 1_600_000_000 * 10**6 for time_us in tried[1])
    assert len(tried) == 2
    assert everything(log, "examples") == everything(log, "dead-letters") == []


def test_what_was_never_in_a_log_has_no_position(log: Log) -> None:
    with closing(log.stage("s")) as stage:
        deliver(stage, "feed", lambda _: Delivery([Outgoing("feedback", b"x" * (MAX_BYTES + 1), key=b"k")]))
    [letter] = everything(log, "dead-letters")
    said = dict(letter.headers)
    assert said["topic"] == b"feedback"
    assert said["bytes"] == b"1000001"
    assert not {"partition", "offset"} & set(said)


def test_other_errors_are_not_swallowed(log: Log) -> None:
    broken: Callable[[object], Delivery] = lambda _: Delivery([Outgoing("nowhere", b"x")])  # noqa: E731
    with closing(log.stage("s")) as stage, pytest.raises(StreamError, match="'nowhere' does not exist"):
        deliver(stage, "feed", broken)

"""Letters that are sent again: once, whenever the command dies; and whole, also where a letter holds a part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recdistill._wire import records_pb2 as wire
from recdistill.config import LogSettings
from recdistill.data.foreign import Translator, decoder_of
from recdistill.data.mapping import TableMapping
from recdistill.errors import DataError, Fenced
from recdistill.loops import letters
from recdistill.loops.letters import Letter, Mended, Theirs
from recdistill.loops.translate import raw_of
from recdistill.records import DEAD_LETTERS, Candidate, Feedback, Impression, Item, decode, encode
from recdistill.stream import Log, Message, TopicPartition, dead_letter, open_log, standard_topics
from recdistill.stream.testing import Abort, AbortingLog, everything

CLICK = {"id": "f", "impression_id": "r1", "item": "a", "action": "click"}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(made(tmp_path / "log.sqlite")) as log:
        yield log


def made(path: Path, *dead: tuple[Message, Exception, str]) -> Log:
    log = open_log(LogSettings(path=str(path)))
    log.create_topics({**standard_topics(), "web.views": 1})
    write(log, *dead)
    return log


def write(log: Log, *dead: tuple[Message, Exception, str]) -> None:
    with closing(log.stage("some-stage")) as stage, stage.transaction() as transaction:
        for message, error, name in dead:
            one = dead_letter(message, error, name)
            transaction.send(DEAD_LETTERS, one.value, key=one.key, headers=one.headers)


def bad(n: int, topic: str = "feedback", **fields: Any) -> tuple[Message, Exception, str]:
    value = json.dumps({**CLICK, "id": f"f{n}", "item": "", **fields}).encode()
    message = Message(TopicPartition(topic, 0), n, b"r1", value, 7, headers=(("trace", b"x"),))
    return message, DataError("item is empty"), "join"


def right(letter: Letter) -> Mended:
    return Mended(letter, json.dumps({**json.loads(letter.message.value or b""), "item": "a"}).encode())


def sent(log: Log) -> Counter[str]:
    return Counter(decode(Feedback, message.value).id for message in everything(log, "feedback"))


def test_what_a_letter_says(log: Log) -> None:
    write(log, bad(3))
    [one] = letters.read(log)
    assert (one.stage, one.error, one.place, one.sent) == ("join", "DataError: item is empty", "feedback/0 at 3", False)
    assert (one.message.key, one.message.headers, one.message.time_us) == (b"r1", (("trace", b"x"),), 7)
    assert letters.fields_of(one, one.message.value, {}) == {**CLICK, "id": "f3", "item": ""}
    [listed] = letters.read(log, records=False)
    assert (listed.place, listed.error, listed.message.value) == (one.place, one.error, None)


def test_a_letter_is_sent_once_however_often_it_is_asked_for(log: Log) -> None:
    write(log, bad(1), bad(2), bad(1))  # a stage that was killed may write the same letter again
    for expected in ({"sent": 2, "already": 1, "feedback": 2}, {"already": 3}):
        counts = letters.send(log, [right(one) for one in letters.read(log)], {})
        assert counts == expected
    assert sent(log) == {"f1": 1, "f2": 1}
    assert [one.sent for one in letters.read(log)] == [True, True, True]
    write(log, bad(9))
    assert [one.number for one in letters.read(log) if not one.sent] == [letters.read(log)[-1].number]


def test_a_command_that_dies_at_any_step_sends_each_letter_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "_AT_ONCE", 2)

    def send(log: Any) -> None:
        letters.send(log, [right(one) for one in letters.read(log)], {})

    dead = [bad(n) for n in range(5)]
    with closing(made(tmp_path / "whole.sqlite", *dead)) as log:
        double = AbortingLog(log, at=None)
        send(double)
        steps = len(double.steps)
    assert steps > 15
    for at in range(steps):
        with closing(made(tmp_path / f"killed-{at}.sqlite", *dead)) as log:
            with pytest.raises(Abort):
                send(AbortingLog(log, at=at))
            send(log)
            assert sent(log) == {f"f{n}": 1 for n in range(5)}, f"killed at step {at}"


def test_two_commands_at_once_send_it_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second takes the stage over after the first has looked at the marks."""
    write(log, bad(1))
    mended = [right(one) for one in letters.read(log)]
    real, calls = letters.marks, []

    def look(other: Log) -> set[str]:
        found = real(other)
        if not calls:
            calls.append(1)
            assert letters.send(log, mended, {})["sent"] == 1
        return found

    monkeypatch.setattr(letters, "marks", look)
    with pytest.raises(Fenced):
        letters.send(log, mended, {})
    assert sent(log) == {"f1": 1}


def test_nothing_is_sent_where_one_is_still_wrong(log: Log) -> None:
    write(log, bad(1), bad(2))
    one, other = letters.read(log)
    with pytest.raises(DataError, match=f"letter {other.number}: not a feedback: item is empty"):
        letters.send(log, [right(one), Mended(other, other.message.value)], {})
    assert sent(log) == {}


def test_the_whole_of_a_record_that_a_letter_could_not_hold(log: Log) -> None:
    large = Impression(
        "r1", 5, candidates=tuple(Candidate(f"item-{n:06}") for n in range(20_000)), exclude=("x" * 500,) * 1
    )
    value = encode(large)
    with closing(log.stage("product")) as stage, stage.transaction() as transaction:
        transaction.send("impressions", value, key=b"r1")
    [message] = everything(log, "impressions")
    letter = dead_letter(message, DataError("too large"), "score", shorter=1)
    with closing(log.stage("score")) as stage, stage.transaction() as transaction:
        transaction.send(DEAD_LETTERS, letter.value, headers=letter.headers)
    [one] = letters.read(log)
    assert one.bytes == len(value) > len(one.message.value or b"")
    assert letters.whole(log, one) == value
    log.trim(message.tp, 2)  # type: ignore[attr-defined]
    with pytest.raises(
        DataError, match="holds the first 65,536 of .* bytes, and the whole is no longer at impressions/0"
    ):
        letters.whole(log, one)


def test_a_record_that_was_in_no_log_goes_where_it_was_for(log: Log) -> None:
    unwritten = Message(TopicPartition("items", -1), -1, None, b'{"id": "a"}', 0)
    write(log, (unwritten, DataError("the log is full"), "feed"), (unwritten, DataError("the log is full"), "feed"))
    mended = [Mended(one, one.message.value) for one in letters.read(log)]
    assert letters.send(log, mended, {}) == {"sent": 2, "items": 2}, "nothing tells whether they are the same"
    assert letters.send(log, mended, {}) == {"already": 2}
    assert [decode(Item, m.value).id for m in everything(log, "items")] == ["a", "a"]


def theirs() -> Mapping[str, Theirs]:
    mapping = TableMapping(kind="impressions", columns={"id": "request", "time": "ts", "candidates": "slots.sku"})
    one = Translator("web.views", [mapping], decoder_of("json"))
    of_fields = one.encoded_fields
    return {"web.views": Theirs(lambda m: one.fields(raw_of(m)), lambda m: one.encoded(raw_of(m)), of_fields)}


def test_a_letter_of_the_translator_is_translated_anew_and_their_topic_is_not_written(log: Log) -> None:
    """The mapping was mended, or a person mends the fields."""
    view = {"request": "r1", "ts": 1_767_600_000, "slots": [{"sku": "a"}]}
    messages = [
        Message(TopicPartition("web.views", 0), n, None, json.dumps(one).encode(), 5)
        for n, one in enumerate((view, {**view, "request": None}, {"other": 1}))
    ]
    write(log, *((message, DataError("no time"), "translate") for message in messages))
    first, second, third = letters.read(log)
    with pytest.raises(DataError, match=r"nothing can be sent to 'web.views': .* name it in \[\[translate.topics\]\]"):
        letters.send(log, [Mended(first, first.message.value)], {})
    fields = letters.fields_of(second, second.message.value, theirs())
    assert fields is not None
    mended = [Mended(first, first.message.value), Mended(second, second.message.value, {**fields, "request": "r2"})]
    assert letters.send(log, mended, theirs()) == {"sent": 2, "impressions": 2}
    assert [decode(Impression, m.value).id for m in everything(log, "impressions")] == ["r1", "r2"]
    assert everything(log, "web.views") == []
    with pytest.raises(DataError, match="column 'request' .id.: is empty"):
        letters.send(log, [Mended(third, third.message.value)], theirs())


TOMORROW = b"\xfa\x88\x27\x0dfrom tomorrow"
"""Field 79,999 of a newer version: its tag, (79999 << 3 | 2) as a varint, its length and its text."""


def tomorrow(path: Path, topic: str, value: bytes) -> tuple[Log, Letter]:
    """A log with one letter, of a record that a newer version has written."""
    message = Message(TopicPartition(topic, 0), 3, b"r1", value, 7)
    log = made(path / "log.sqlite", (message, DataError("later"), "join"))
    return log, letters.read(log)[0]


@pytest.mark.parametrize("topic", ["feedback", "items", "impressions"])
def test_fields_of_a_newer_version_survive_being_sent_again(tmp_path: Path, topic: str) -> None:
    candidates = (Candidate("a"), Candidate("b"))
    records = {
        "feedback": Feedback("f1", "r1", "a", "click"),
        "items": Item("r1"),
        "impressions": Impression("r1", 5, candidates=candidates),
    }
    value = encode(records[topic]) + TOMORROW
    if topic == "impressions":  # in a candidate too
        message = wire.Impression.FromString(value[7:])
        message.candidates[1].MergeFromString(TOMORROW)
        value = value[:7] + message.SerializeToString()
    log, letter = tomorrow(tmp_path, topic, value)
    with closing(log):
        assert letters.send(log, [Mended(letter, value)], {})["sent"] == 1
        [found] = everything(log, topic)
        assert found.value == value
        assert decode(type(records[topic]), found.value) == records[topic]


def test_fields_of_a_newer_version_survive_a_change_of_others(tmp_path: Path) -> None:
    log, letter = tomorrow(tmp_path, "feedback", encode(Feedback("f1", "r1", "a", "click")) + TOMORROW)
    with closing(log):
        mended = json.dumps({**CLICK, "id": "f1", "item": "b"}).encode()
        assert letters.send(log, [Mended(letter, mended)], {})["sent"] == 1
        [found] = everything(log, "feedback")
        assert found.value == encode(Feedback("f1", "r1", "b", "click")) + TOMORROW


def test_a_change_that_would_drop_a_field_of_a_newer_version_is_one_sentence(tmp_path: Path) -> None:
    message = wire.Impression.FromString(encode(Impression("r1", 5, candidates=(Candidate("a"), Candidate("b"))))[7:])
    message.candidates[0].MergeFromString(TOMORROW)
    value = encode(Impression("r1", 5))[:7] + message.SerializeToString()
    log, letter = tomorrow(tmp_path, "impressions", value)
    with closing(log):
        mended = json.dumps({"id": "r1", "time_us": 6, "candidates": [{"item": "a"}, {"item": "b"}]}).encode()
        with pytest.raises(DataError, match=r"letter 0: a newer version has put fields into a part of this record"):
            letters.send(log, [Mended(letter, mended)], {})
        assert everything(log, "impressions") == []
        assert letters.send(log, [Mended(letter, value)], {})["sent"] == 1


def test_an_item_whose_long_key_is_its_id_keeps_it_when_it_is_sent_again(log: Log) -> None:
    """A key may have 512 characters, each of them four bytes."""
    name = "\N{RIBBON}" * 400
    mapping = TableMapping(kind="items", columns={"id": "@key"}, attributes={"price": "price"})
    shop = Translator("web.views", [mapping], json.loads)
    theirs = {
        "web.views": Theirs(
            fields=lambda message: shop.fields(raw_of(message)),
            records=lambda message: shop.encoded(raw_of(message)),
            of_fields=shop.encoded_fields,
        )
    }
    message = Message(TopicPartition("web.views", 0), 3, name.encode(), b'{"price": 7.5}', 7)
    write(log, (message, DataError("a mapping that was wrong"), "translate"))
    [letter] = letters.read(log)
    assert letter.message.key == name.encode()
    assert letters.send(log, [Mended(letter, letter.message.value)], theirs)["items"] == 1
    assert [decode(Item, one.value).id for one in everything(log, "items")] == [name]


class Slow:
    """A log that gives nothing at the first question, as a broker that is busy."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._asked = inner, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def source(self, *args: Any) -> Slow:
        return Slow(self._inner.source(*args))

    def read_from(self, *args: Any) -> list[Message]:
        asked, self._asked = self._asked, True
        found: list[Message] = self._inner.read_from(*args) if asked else []
        return found


def test_a_whole_record_is_found_where_the_log_is_slow_to_answer(log: Log) -> None:
    value = b"x" * 999_000
    with closing(log.stage("product")) as stage, stage.transaction() as transaction:
        transaction.send("feedback", value, key=b"k" * 900)
    [message] = everything(log, "feedback")
    long = message._replace(key=b"k" * 2_000)  # so that its letter holds a part
    write(log, (long, DataError("noise"), "join"))
    [letter] = letters.read(log)
    assert letter.bytes == len(value)
    slow: Any = Slow(log)
    assert letters.whole(slow, letter) == value
    behind = msgspec.structs.replace(letter, offset=log.source(["feedback"]).bounds(message.tp)[1])
    with pytest.raises(DataError, match="the whole is no longer at"):
        letters.whole(slow, behind)

"""Whether a stage's topics are the same: by their ids, after an error and after a write."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from recdistill.errors import LostPosition, StreamError, WrongLog
from recdistill.stream import Left, TopicPartition
from recdistill.stream.kafka.same import Same
from recdistill.stream.transaction import Row

IN, OUT, THEIRS = TopicPartition("impressions", 0), TopicPartition("rankings", 1), TopicPartition("/web.views", 0)


def row() -> Row:
    return Row(OUT, b"k", b"v", (), 5)


def same(ids: dict[str, str]) -> Same:
    return Same("shop.", lambda: dict(ids))


def nothing(_: set[str]) -> str:
    return ""


def caused(reason: Exception) -> StreamError:
    error = StreamError("cannot write")
    error.__cause__ = reason
    return error


def test_a_topic_made_again_is_named_whether_it_is_read_or_written() -> None:
    for topic in ("impressions", "rankings", "/web.views"):
        ids = {"impressions": "1", "rankings": "2", "/web.views": "3"}
        found = same(ids)
        found.after(StreamError("x"), [IN, THEIRS], [row()], nothing)
        ids[topic] = "9"
        with pytest.raises(WrongLog, match=f"topic '{topic}' was deleted and made again while this process used it"):
            found.after(StreamError("x"), [IN, THEIRS], [row()], nothing)


def test_a_topic_that_is_missing_is_named_and_those_of_others_are_not_looked_for() -> None:
    asked: list[set[str]] = []

    def missing(names: set[str]) -> str:
        asked.append(names)
        return "rankings"

    with pytest.raises(WrongLog, match="topic 'rankings' was deleted while this process used it"):
        same({}).after(StreamError("x"), [IN, THEIRS], [row()], missing)
    assert asked == [{"impressions", "rankings"}]


def test_an_error_that_trying_again_does_not_repair_is_raised_itself() -> None:
    def never(_: set[str]) -> str:
        pytest.fail("who may not see a topic cannot tell whether it is there")

    for reason, missing in (
        (TopicAuthorizationFailedError("rankings"), never),
        (UnknownTopicOrPartitionError(), nothing),
    ):
        error = caused(reason)
        with pytest.raises(StreamError) as raised:
            same({}).after(error, [IN], [row()], missing)
        assert raised.value is error


def test_while_no_broker_answers_nothing_is_said_of_topics() -> None:
    answers = [True]

    def ask() -> dict[str, str]:
        if not answers[0]:
            raise StreamError("no broker")
        return {"impressions": "1"}

    found = Same("shop.", ask)
    answers[0] = False
    found.after(StreamError("x"), [IN], [row()], nothing)


def test_what_was_written_to_is_held_against_what_the_client_knows() -> None:
    known = {"shop.rankings": "2"}
    producer = SimpleNamespace(_metadata=SimpleNamespace(topic_id=known.get))
    found = same({"rankings": "2"})
    found.written([row()], producer)
    known["shop.rankings"] = "9"
    with pytest.raises(WrongLog, match="topic 'rankings' was deleted and made again"):
        found.written([row()], producer)
    late = same({})  # the topic was made after the stage began: its first id counts
    late.written([row()], producer)
    known["shop.rankings"] = "10"
    with pytest.raises(WrongLog):
        late.written([row()], producer)
    del known["shop.rankings"]  # an older broker tells no ids
    late.written([row()], producer)


def test_a_stage_whose_topic_was_made_again_since_it_ran_is_told_so() -> None:
    now = same({"impressions": "2"})
    said = Left({IN: 7}, "", stopped=True, at_us=5, ids={"impressions": "1"})
    lost = now.lost("score", said)
    assert isinstance(lost, LostPosition)
    assert "topic 'impressions' was deleted and made again since the stage 'score' ran" in str(lost)
    assert now.lost("score", Left({IN: 7}, "", stopped=True, at_us=5, ids={"impressions": "2"})) is None
    assert now.lost("score", Left({IN: 7}, "", stopped=True, at_us=5)) is None, "an older version said no ids"

"""A person is found in what can be read, and in what cannot."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from recdistill.errors import DecodeError
from recdistill.loops.forget import trace
from recdistill.records import DEAD_LETTERS, Candidate, Feedback, Impression, encode
from recdistill.stream import Delivery, Message, TopicPartition, deliver, standard_topics
from recdistill.stream.embedded import EmbeddedLog

FEEDBACK = TopicPartition("feedback", 0)


def test_broken_feedback_on_a_list_of_the_person_is_theirs_with_and_without_a_key(tmp_path: Path) -> None:
    broken: list[tuple[bytes | None, bytes]] = [
        (None, b'{"id": "f", "impression_id": "r-1", "action": "click"}'),  # no item
        (None, b'{"id": "f", "impression_id": "r-1", "it'),
        (None, encode(Feedback("f", "r-1", "a", "click"))[:-3]),
        (b"r-1", b"\xff"),
        (None, b'{"id": "f", "impression_id": "r-12", "action": "click"}'),  # somebody else's
        (b"r-2", b"\xff"),
    ]
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log:
        log.create_topics(standard_topics())
        with closing(log.stage("product")) as stage, stage.transaction() as transaction:
            for name, user in (("r-1", "u-7"), ("r-2", "u-8"), ("r-12", "u-8")):
                shown = Impression(name, 5, user=user, candidates=(Candidate("a"),))
                transaction.send("impressions", encode(shown), key=name.encode())
            for key, value in broken:
                transaction.send("feedback", value, key=key, partition=0)
        dead = [(Message(FEEDBACK, n, *both, 5), DecodeError("no feedback")) for n, both in enumerate(broken)]
        with closing(log.stage("join")) as stage:
            deliver(stage, "join", lambda _: Delivery(dead=dead))
        found = trace(log, "u-7")
    assert found.ids == {"r-1"}
    for topic in ("feedback", DEAD_LETTERS):
        [places] = found.of(topic).values()
        assert [offset for offset, _, _ in places] == [0, 1, 2, 3], topic

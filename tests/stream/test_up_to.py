"""Reading up to an offset, on a log that says where it ends and then sends nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from recdistill.errors import Interrupted, StreamError
from recdistill.stream import Message, TopicPartition, up_to

TP = TopicPartition("held-out", 0)


class Silent:
    """Offsets 3 to 9. Each read takes a second, and brings a message only at some of the seconds."""

    def __init__(self, answers: Sequence[int] = ()) -> None:
        self.answers, self.now_s, self.at = answers, 0, 3

    def position(self) -> dict[TopicPartition, int]:
        return {TP: self.at}

    def read_from(self, _: TopicPartition, most: int, __: float) -> list[Message]:
        self.now_s += 1
        if self.now_s not in self.answers:
            return []
        self.at += 1
        return [Message(tp=TP, offset=self.at - 1, key=None, value=b"", time_us=0, headers=())]


def read(source: Silent, **more: Any) -> list[int]:
    return [one.offset for one in up_to(source, TP, 9, clock=lambda: float(source.now_s), **more)]  # type: ignore[arg-type]


def test_a_log_that_never_answers_is_said_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    source = Silent()
    with caplog.at_level(logging.WARNING), pytest.raises(StreamError) as failed:
        read(source)
    assert source.now_s == 120
    assert [one.getMessage() for one in caplog.records] == [
        "held-out/0: nothing comes behind offset 3 of 9; waiting 120 s"
    ]
    assert "goes up to offset 9, and nothing behind offset 3 came for 120 s; check the log" in str(failed.value)


def test_each_message_begins_the_patience_anew() -> None:
    source = Silent([100, 200, 300, 400, 500, 600])
    assert read(source) == [3, 4, 5, 6, 7, 8]


def test_who_is_told_to_stop_stops_at_the_next_read() -> None:
    source = Silent([1, 2])
    with pytest.raises(Interrupted, match=r"held-out/0 was read: it stands at offset 5 of 9"):
        read(source, stop=lambda: source.now_s >= 30)
    assert source.now_s == 30

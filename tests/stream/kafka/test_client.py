"""A call that is tried again while brokers do not answer: for how long, what the log says of it, and when."""

from __future__ import annotations

import threading

import pytest
from kafka.errors import KafkaTimeoutError

from recdistill.errors import StreamError
from recdistill.stream.kafka import client
from recdistill.stream.kafka.client import Brokers


class Clock:
    """Time that passes only where somebody sleeps."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock


def away_until(clock: Clock, at: float) -> str:
    if clock.now_s < at:
        raise OSError("no coordinator yet")
    return "answered"


@pytest.mark.parametrize(("seconds", "lines"), [(1, 0), (2.5, 0), (4, 1), (14, 2), (60, 6)])
def test_a_short_wait_is_silent_and_a_long_one_is_told_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture, seconds: float, lines: int
) -> None:
    """A new broker makes its topic of transactions at the first one. That takes a second and is no trouble."""
    at = clock.now_s + seconds
    assert Brokers("kafka:9092", {}).retry(lambda: away_until(clock, at)) == "answered"
    assert len([one for one in caplog.messages if "does not answer (no coordinator yet)" in one]) == lines


def test_after_two_minutes_it_is_an_error(clock: Clock) -> None:
    with pytest.raises(OSError, match="no coordinator yet"):
        Brokers("kafka:9092", {}).retry(lambda: away_until(clock, clock.now_s + 1))
    assert 120 <= clock.now_s <= 121


def test_who_is_told_to_stop_waits_for_seconds_only(clock: Clock) -> None:
    told_at_s = 1e9
    brokers = Brokers("127.0.0.1:1", {}, stop=lambda: clock.now_s >= told_at_s)

    def silent() -> None:
        raise KafkaTimeoutError("no answer")

    with pytest.raises(KafkaTimeoutError):
        brokers.retry(silent)
    assert clock.now_s == pytest.approx(client.PATIENCE_S, abs=1)
    for began_s in (0.0, 60.0):  # before it waits, and while it waits
        clock.now_s, told_at_s = 0.0, began_s
        with pytest.raises(KafkaTimeoutError):
            brokers.retry(silent)
        assert clock.now_s == pytest.approx(began_s + (0 if began_s else client.GIVES_WAY_S), abs=1)


def test_who_is_told_to_stop_while_a_client_is_opened_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GIVES_WAY_S", 0.0)
    told, silent = threading.Event(), threading.Event()
    brokers = Brokers("127.0.0.1:1", {}, stop=told.is_set)
    assert brokers.opened(lambda: "client") == "client"

    def opens() -> None:
        told.set()
        silent.wait(60)

    with pytest.raises(StreamError, match=r"Kafka at .*:1 does not answer, and this process was told to stop"):
        brokers.opened(opens)
    silent.set()
    told.clear()

    def fails() -> None:
        raise KafkaTimeoutError("no answer")

    with pytest.raises(KafkaTimeoutError, match="no answer"):
        brokers.opened(fails)

"""How long a broker is waited for that accepts connections and is silent."""

from __future__ import annotations

import threading

import pytest
from kafka.errors import KafkaTimeoutError

from recdistill.errors import StreamError
from recdistill.stream.kafka import client
from recdistill.stream.kafka.client import Brokers


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_who_is_told_to_stop_waits_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
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

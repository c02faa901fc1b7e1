"""A call that is tried again while brokers do not answer: what the log says of it, and when."""

from __future__ import annotations

import pytest

from recdistill.stream.kafka import client
from recdistill.stream.kafka.client import Brokers


class Clock:
    """Time that passes only where somebody sleeps."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock


def away_until(clock: Clock, at: float) -> str:
    if clock.now < at:
        raise OSError("no coordinator yet")
    return "answered"


@pytest.mark.parametrize(("seconds", "lines"), [(1, 0), (2.5, 0), (4, 1), (14, 2), (60, 6)])
def test_a_short_wait_is_silent_and_a_long_one_is_told_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture, seconds: float, lines: int
) -> None:
    """A new broker makes its topic of transactions at the first one. That takes a second and is no trouble."""
    at = clock.now + seconds
    assert Brokers("kafka:9092", {}).retry(lambda: away_until(clock, at)) == "answered"
    assert len([one for one in caplog.messages if "does not answer (no coordinator yet)" in one]) == lines


def test_after_two_minutes_it_is_an_error(clock: Clock) -> None:
    with pytest.raises(OSError, match="no coordinator yet"):
        Brokers("kafka:9092", {}).retry(lambda: away_until(clock, clock.now + 1))
    assert 1120 <= clock.now <= 1121

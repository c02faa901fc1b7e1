"""Whether a loop lives: what it says of itself, and what `/readyz` makes of it."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter

import pytest

from recdistill.config import Settings
from recdistill.loops import wire
from recdistill.progress import Progress
from services import process
from services.health import Health
from services.pulse import Pulse


def test_only_the_thread_of_the_loop_counts() -> None:
    now = [0.0]
    pulse = Pulse(10.0, clock=lambda: now[0])
    pulse.is_set()
    now[0] = 11.0
    other = threading.Thread(target=pulse.is_set)
    other.start()
    other.join()
    assert "silent for 11 s" in pulse.trouble()
    pulse(3, None)  # progress of long work
    assert pulse.trouble() == ""


def test_a_loop_that_waits_may_be_silent_for_so_long() -> None:
    now, seen = [0.0], list[float | None]()
    pulse = Pulse(10.0, clock=lambda: now[0])

    def look() -> None:
        now[0] = 65.0
        seen.append(pulse.silent_s())
        now[0] = 71.0
        seen.append(pulse.silent_s())
        pulse.set()

    looker = threading.Timer(0.05, look)
    looker.start()
    assert pulse.wait(60.0)  # asked for a minute, the signal comes earlier
    looker.join()
    assert seen == [5.0, 11.0]
    assert pulse.trouble() == ""


def test_readyz_follows_a_loop_from_its_beginning_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In process, with the real port: not begun, lives, hangs, lives again, ended."""
    ports, said = list[int](), list[tuple[int, str]]()
    now = [0.0]

    class Watched(Health):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            ports.append(self.port)
            said.append(ready())

        def close(self) -> None:
            said.append(ready())
            super().close()

    def ready() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/readyz", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def job(
        settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
    ) -> Counter[str]:
        stop.is_set()
        said.append(ready())
        now[0] += 61.0  # a teacher, a disk, a lock that never comes back
        said.append(ready())
        assert progress is not None
        progress(1, None)
        said.append(ready())
        return counts

    monkeypatch.setenv("RECDISTILL_HEALTH_PORT", "0")
    monkeypatch.setenv("RECDISTILL_HEALTH_SILENT_S", "60")
    monkeypatch.setattr(process, "Health", Watched)
    monkeypatch.setattr(process, "Pulse", lambda silent_s: Pulse(silent_s, clock=lambda: now[0]))
    monkeypatch.setattr(process.logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(process.signal, "signal", lambda *_: None)
    monkeypatch.setattr(process.threading, "excepthook", threading.excepthook)
    monkeypatch.setitem(wire.JOBS, "joiner", job)
    assert process.main("joiner") == 0
    assert [status for status, _ in said] == [503, 200, 503, 200, 503]
    assert said[0][1] == "the loop has not begun yet\n"
    assert "silent for 61 s" in said[2][1]
    assert said[4][1] == "the loop has ended\n"


@pytest.mark.parametrize("text", ["soon", "0", "-1"])
def test_a_time_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDISTILL_HEALTH_SILENT_S", text)
    monkeypatch.setattr(process.logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(process.threading, "excepthook", threading.excepthook)
    assert process.main("joiner") == 2

"""Waiting for a teacher: how often, how long, and what ends it."""

from __future__ import annotations

import threading
import time

import pytest

from recdistill.errors import DataError, TeacherError
from recdistill.loops.patience import patiently


class Flaky:
    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left, self.calls = failures, 0
        self.error = error or TeacherError("no route")

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "scores"


@pytest.mark.slow
def test_it_is_tried_until_it_works() -> None:
    work, waits = Flaky(2), []
    began = time.monotonic()
    assert patiently(work, 10.0, stop=threading.Event(), waited=lambda: waits.append(1)) == "scores"
    assert (work.calls, len(waits)) == (3, 2)
    assert 0.25 + 0.5 <= time.monotonic() - began < 10


@pytest.mark.slow
def test_patience_ends() -> None:
    began = time.monotonic()
    with pytest.raises(TeacherError, match=r"no route; it was waited for 0\.6 s \(score\.patience_s\), and nothing"):
        patiently(Flaky(100), 0.6, stop=threading.Event())
    assert 0.6 <= time.monotonic() - began < 10


def test_without_patience_the_first_failure_is_the_last() -> None:
    work = Flaky(1)
    with pytest.raises(TeacherError, match="^no route$"):
        patiently(work, 0.0, stop=threading.Event())
    assert work.calls == 1


def test_stopping_ends_the_wait_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert patiently(Flaky(100), 60.0, stop=stop) is None
    assert time.monotonic() - began < 30, "half of its patience"


def test_what_is_no_failure_of_the_teacher_is_not_waited_for() -> None:
    work = Flaky(1, DataError("broken"))
    with pytest.raises(DataError):
        patiently(work, 60.0, stop=threading.Event())
    assert work.calls == 1

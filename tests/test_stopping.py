"""A signal that comes while the main thread is inside `wait` and holds the lock of the stop signal."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from recdistill.stopping import Stop

AT_A_BAD_MOMENT = """
import os, signal
from recdistill.commands.verb import stopping

with stopping() as stop:
    release = stop._cond._release_save

    def interrupted():  # `wait` calls it with the lock in its hands
        os.kill(os.getpid(), signal.{signal})
        return release()

    stop._cond._release_save = interrupted
    print("told" if stop.wait(60) else "not told")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_verb_is_stopped_wherever_the_signal_finds_it(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_A_BAD_MOMENT.format(signal=name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr


def test_it_waits_for_nobody_and_counts_at_once() -> None:
    stop = Stop()
    assert not stop.is_set()
    assert not stop.wait(0.0)
    with stop._cond:
        stop.ask()
        assert stop.is_set()
        assert stop.wait(10)


def test_it_wakes_those_who_wait() -> None:
    stop, found = Stop(), list[bool]()
    waiting = threading.Thread(target=lambda: found.append(stop.wait(60)))
    waiting.start()
    while not stop._cond._waiters:
        pass
    stop.ask()
    waiting.join(10)
    assert found == [True]

"""The process that makes a bundle: what it shares with the distiller, and what it does not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from recdistill.errors import BundleError
from recdistill.loops.distil import beside
from recdistill.loops.distil.beside import Maker


def test_it_is_nice_within_the_distillers_session_and_has_a_group_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another session its niceness would not count; in the same group Ctrl-C would reach it."""
    waits = "import os, sys; os.nice(int(sys.argv[2])); print(file=open(sys.argv[1] + '/nice', 'w')); sys.stdin.read()"
    monkeypatch.setattr(beside, "COMMAND", (sys.executable, "-c", waits))
    maker = Maker(tmp_path, nice=10)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "nice").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert os.getsid(maker.pid) == os.getsid(0)
        assert os.getpgid(maker.pid) == maker.pid != os.getpgid(0)
        assert os.getpriority(os.PRIO_PROCESS, maker.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    finally:
        maker.end()
        with pytest.raises(BundleError, match="was ended by SIGKILL"):
            maker.wait()


def test_what_it_says_last_is_why_there_is_no_bundle(tmp_path: Path) -> None:
    """The real process, in a folder that holds no snapshot."""
    with pytest.raises(BundleError, match="holds no snapshot of a student"):
        Maker(tmp_path, nice=0).wait()

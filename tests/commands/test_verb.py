"""What all verbs share: the bar shows figures, and `--verbose` is about recdistill."""

from __future__ import annotations

import argparse
import logging

import pytest

from recdistill.cli import _logs
from recdistill.commands.verb import Bar, telling
from recdistill.progress import tell


def test_a_bar_shows_the_figures_that_it_was_told_beside_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("distil", argparse.Namespace(quiet=False)) as bar:
        bar._shown = True  # as on a terminal
        bar(1, 10)
        tell(bar, {"loss": 0.51234, "agreement": 0.8})
        bar(5, 10)
        bar._bar.refresh()
        assert "5/10" in (shown := capsys.readouterr().err)
        assert "loss=0.512" in shown
        assert "agreement=0.8" in shown
        bar(5, 20)  # a new part of the work goes on with them
        bar._bar.refresh()
        assert "loss=0.512" in capsys.readouterr().err


def test_who_shows_no_figures_is_not_asked_to() -> None:
    tell(None, {"loss": 1.0})
    tell(lambda done, total: None, {"loss": 1.0})


def test_verbose_shows_no_lines_that_a_library_writes_to_the_root_logger(caplog: pytest.LogCaptureFixture) -> None:
    with _logs(quiet=False, verbose=True):
        logging.getLogger().info("feature_gates: 20 lines about tables")
        logging.getLogger().warning("a warning of a library")
        logging.getLogger("recdistill.loops").info("resumed at step 3")
    assert [record.getMessage() for record in caplog.records] == ["a warning of a library", "resumed at step 3"]
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().info("after it the root logger is as it was")
    assert len(caplog.records) == 3


def test_a_loop_says_what_it_does_unless_it_is_to_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    loops = logging.getLogger("recdistill.loops")
    before = loops.level
    loops.setLevel(logging.WARNING)
    try:
        for quiet, said, level in ((False, "judge: works\n", logging.INFO), (True, "", logging.WARNING)):
            with telling(argparse.Namespace(quiet=quiet), "judge: works"):
                assert logging.getLogger("recdistill.loops.rounds").getEffectiveLevel() == level
            assert capsys.readouterr().err == said
            assert loops.level == logging.WARNING, "it is as it was"
    finally:
        loops.setLevel(before)

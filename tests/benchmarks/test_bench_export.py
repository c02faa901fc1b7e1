"""A small student is learnt until its bundle was made beside it, and each step is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_export import Step, fill, learn, row
from recdistill.config import LogSettings
from recdistill.stream import open_log


@pytest.mark.slow
def test_steps_are_told_until_a_bundle_is_made(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    fill(log, 200, 40_000)
    steps = learn(log, tmp_path, items=200, dim=4, alone=10, batch=4)
    log.close()
    assert [one.bundles for one in steps[:10]] == [0] * 10
    assert steps[-1].bundles == 1
    assert steps[-1].checkpoints >= 1
    assert len(steps) < 10_000


def test_a_row_shows_the_longest_time_between_two_steps(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Step(float(at), at / 2, 0, 0) for at in (0, 1, 2, 6)]
    assert row("with checkpoints", steps, alone=1.0, other=4.0) == 2.0
    said = capsys.readouterr().out
    assert "3 steps, 2.000 s each (1.000 s of processor time), 2.00 times alone, 0.50 times other;" in said
    assert said.endswith("median 1.000 s, longest 4.000 s\n")

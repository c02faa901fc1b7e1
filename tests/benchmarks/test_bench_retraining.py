"""The benchmark of retraining: who answers when, figures before learning, its rows, and a run that was cut off."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bench_retraining as bench

HOUR = bench.HOUR_US


class Learner:
    """A student that counts its batches."""

    def __init__(self, learnt: int = 0) -> None:
        self.learnt = learnt

    def state(self) -> tuple[int, int]:
        return self.learnt, 0

    def restore(self, learnt: int, _: int) -> None:
        self.learnt = learnt


@pytest.mark.parametrize(
    ("every", "served", "renewals"),
    [(0, [0, 0, 0, 0, 0, 0], 0), (1, [0, 1, 2, 3, 4, 5], 0), (HOUR, [0, 0, 2, 2, 2, 5], 2)],
)
def test_who_answers_is_renewed_when_a_period_begins(every: int, served: list[int], renewals: int) -> None:
    """Batches at 0:10, 0:50, 1:00, 1:20, 1:59 and 5:00."""
    learner, copy, server = Learner(), Learner(), bench.Server(every)
    found = []
    for minutes in (10, 50, 60, 80, 119, 300):
        fresh: Any = None if every == 1 else copy
        answers: Any = server.at(learner, fresh, minutes * HOUR // 60)  # type: ignore[arg-type]
        found.append(answers.learnt)
        learner.learnt += 1
    assert (found, server.renewals) == (served, renewals)


def told(tmp_path: Path, *words: str) -> argparse.Namespace:
    small = ["--short", "--lists", "400", "--items", "100", "--rows", str(tmp_path / "rows.jsonl")]
    chosen: argparse.Namespace = bench.options().parse_args([*small, *words])
    return chosen


@pytest.mark.slow
def test_it_prints_every_row_and_a_run_that_was_cut_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = told(tmp_path)
    found = bench.rows_of(chosen, 0)
    assert list(found) == [*bench.SERVED, *bench.LOOKING_BACK]
    assert len({tuple(one.users) for one in found.values()}) == 1
    assert found["never"].renewals == 0 < found["daily"].renewals < found["continuous"].renewals
    assert found["never"].values != found["continuous"].values
    kept = [json.loads(line)["row"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert kept == list(found)
    # Without its last row, only that row is measured again.
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()[:-1]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    real, asked = bench.measured, []
    monkeypatch.setattr(bench, "measured", lambda *args: asked.append(list(args[2])) or real(*args))
    again = bench.rows_of(chosen, 0)
    assert asked == [["continuous, rebuilt"]]
    assert {name: one.values for name, one in again.items()} == {name: one.values for name, one in found.items()}
    lines = bench.table([found])
    assert len(lines) == 1 + len(found)
    assert lines[1].startswith("never")
    assert " to " in lines[2]


@pytest.mark.slow
def test_a_drift_makes_the_student_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drift that is planted in the middle of the rest; the student of then learns the newest lists again."""
    chosen = told(tmp_path, "--newest", "96")
    world = bench.of_world(0, chosen)
    settings = bench.settings_of(chosen, bench.Policy(rebuilt=True))
    made: list[int] = []
    real = bench.made_anew

    def noted(learner: Any, fresh: Any, newest: Any) -> Any:
        made.append(sum(len(batch) for batch in newest))
        return real(learner, fresh, newest)

    monkeypatch.setattr(bench, "made_anew", noted)
    learn, at = bench.Trainer.learn, []

    def drifting(self: Any, batch: Any) -> Any:
        found = learn(self, batch)
        at.append(batch.again)
        if not batch.again and at.count(False) == len(world.first) // 32 + 5:
            self.watch.drifted.append("planted")
        return found

    monkeypatch.setattr(bench.Trainer, "learn", drifting)
    figures = bench.measured(world, settings, {"continuous, rebuilt": 1})["continuous, rebuilt"]
    assert made == [96]
    assert at.count(True) == 3
    assert len(figures.values) == len(figures.users) > 0


def test_by_user_is_the_mean_of_each_users_lists() -> None:
    figures = bench.Figures([1.0, 0.0, 0.5], ["b", "a", "b"], 0.0, 0)
    np.testing.assert_allclose(figures.by_user(), [0.0, 0.75])

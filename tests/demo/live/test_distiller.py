"""What the demo knows of its distiller: the count that the process tells, also of one that was killed."""

from __future__ import annotations

from pathlib import Path

from recdistill.demo.live.distiller import Distiller, learnt_of
from recdistill.demo.live.family import Family


def test_the_count_is_read_from_the_metrics_of_a_process() -> None:
    said = "# TYPE recdistill_distiller_examples_total counter\nrecdistill_distiller_examples_total 1234\nother 5\n"
    assert learnt_of(said) == 1234
    assert learnt_of("other 5\n") is None


def test_one_that_does_not_answer_says_nothing(tmp_path: Path) -> None:
    assert Distiller(Family(tmp_path, {}), tmp_path, 9).learnt() is None

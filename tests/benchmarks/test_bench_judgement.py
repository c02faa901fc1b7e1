"""The short form of the benchmark of a judgement: a real teacher behind HTTP, and nothing read of what was learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_judgement as bench

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_the_teacher_is_asked_for_pools_and_no_example_is_read(tmp_path: Path) -> None:
    bench.apart(bench.make, tmp_path, 3_000, 8)
    bench.apart(bench.make_log, tmp_path, 3_000, 40, 50)
    took, asked, at_once = bench.measure(tmp_path, 50, teacher_scores=40 * 300)
    assert took.read == {"held-out": 40}
    assert 30 * 200 <= asked <= 40 * 300  # in some lists all that was liked had been seen before
    assert 1 < at_once <= bench.AT_ONCE
    assert {"student", "champion", "popularity", "itemknn"} <= took.lines.keys()
    assert took.notes[-1].startswith("pools of 3")

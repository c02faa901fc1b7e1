"""The benchmark of sizes: from a finished demo's folder it finds the figures that the demo itself has printed."""

from __future__ import annotations

import json

import pytest
from support.demo import DemoRun

from benchmarks import bench_size
from references.finished_demo import FinishedDemo

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_benchmark_that_goes_on_from_a_demo_finds_the_same_figures(finished_demo: DemoRun) -> None:
    summary = json.loads((finished_demo.folder / "summary.json").read_text())
    demo = FinishedDemo.load(finished_demo.folder)
    settings = demo.settings
    again = bench_size.student(demo, settings.loss, settings.student.dim, settings.distil.passes, 3, best=False)
    teacher = bench_size.teacher(demo)
    for name, row in {"student": again, "teacher": teacher}.items():
        assert row.values.mean() == pytest.approx(summary["metrics"][name]["ndcg@10"], abs=1e-9)
        assert row.bytes == summary["size_bytes"][name]

"""When something was learnt, by hand; and the short form as it is typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_for

from benchmarks.bench_fresh import Learnt, Shown

ROOT = Path(__file__).resolve().parents[2]


def test_an_example_is_learnt_when_more_are_learnt_than_stand_before_it() -> None:
    answers = iter([None, 0, 3, 3, 5])
    learnt = Learnt(lambda: next(answers, 5), every_s=0.001)
    wait_for(lambda: learnt.count == 5)
    learnt.close()
    assert learnt.counts == [3, 5]
    first, second = learnt.times
    assert [learnt.at(place) for place in range(6)] == [first, first, first, second, second, None]


def test_the_figures_are_those_of_all_records() -> None:
    shown = Shown.of([float(n) for n in range(101)])
    assert shown == (50.0, 99.0, 100.0, 101)
    assert str(shown) == "p50 50.00 s, p99 99.00 s, longest 100.00 s (101 records)"


@pytest.mark.e2e
@pytest.mark.slow
def test_each_list_of_a_short_stream_is_learnt_also_the_last_ones() -> None:
    words = ["--short", "--seconds", "5", "--window", "1", "--items", "200", "--rate", "60", "--warm", "100"]
    command = [sys.executable, "-m", "benchmarks.bench_fresh", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    written = int(re.search(r"(\d+) lists were written", done.stderr)[1])  # type: ignore[index]
    learnt = re.findall(r"p50 [\d.]+ s, p99 [\d.]+ s, longest [\d.]+ s \((\d+) records\)", done.stdout)
    assert int(learnt[0]) == written > 100
    assert int(learnt[1]) > 0

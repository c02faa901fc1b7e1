"""The short form of the benchmark of rollbacks: two rankers, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_rollback

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.mlflow]


def test_a_rollback_fails_no_request_mixes_none_and_is_quick(tmp_path: Path) -> None:
    [found] = bench_rollback.measure(tmp_path, rankers=2, per_s=60, items=300, rounds=1, with_log=True)
    assert found.answers > 200
    assert (found.failed, found.mixed) == (0, 0)
    assert max(found.waits_s) < 1.5, "without the message it would be two seconds; the full form holds it to one"

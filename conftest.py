"""Collects the examples in README.md and docs/ (tests/support/pages.py says how), and turns skips into failures where
nothing may be skipped: with `--no-skip`, as `make test` runs, and with CI=true.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from support import pages
from support.shared import AbsentData
from support.tries import register

ROOT = Path(__file__).parent

FAST_CASES = 2
"""Of a test with many cases, so many are run by `make test-fast`."""

LONG = (
    # of the second part of `make test`
    "tests/e2e/test_deleted_topics.py",
    "tests/tools/test_crash.py",
    "tests/demo/live/test_run.py",
    "tests/benchmarks/test_bench_size.py",
    "tests/e2e/test_two_distillers.py",
    "tests/stream/test_kafka.py",
    "tests/registry/test_store.py",
    "tests/e2e/test_positions_on_kafka.py",
    "tests/loops/distil/test_distiller.py",
    "tests/deploy/test_images.py",
    "tests/e2e/test_cut_logs.py",
    "tests/e2e/test_processes.py",
    # of the first
    "tests/benchmarks/test_bench_unseen.py",
    "tests/benchmarks/tables/test_fit.py",
    "tests/e2e/test_watch_in_training.py",
    "docs/promotion.md",
    "tests/e2e/test_default_gate.py",
    "tests/benchmarks/test_bench_distillation.py",
    "tests/train/test_step.py",
    "tests/data/test_movielens.py",
    "tests/loops/distil/test_distil.py",
    "tests/loops/distil/test_heard.py",
    "tests/loops/test_promote.py",
    "tests/loops/test_until.py",
    "tests/benchmarks/test_bench_builtin.py",
    "tests/teachers/language/test_teacher.py",
    "tests/commands/test_imports.py",
    "tests/e2e/test_verbs.py",
)
"""Files that take a minute or half of one. They begin first, so that no worker is left with one of them at the end."""

register()
pytest_collect_file = pages.pages.pytest()

# To collect means to import torch, this tree and all tests: millions of objects, and all of them stay. Looking among
# them for garbage took more than half of the time, in each worker. So they are made without it, and never searched.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on garbage is collected, among what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow pages and cases, and puts long files first, then those with something slow."""
    seen: Counter[str] = Counter()
    for item in items:
        if item.path.suffix == ".md" and pages.slow(item.path):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("many"):
            function = item.nodeid.partition("[")[0]
            seen[function] += 1
            if seen[function] > FAST_CASES:
                item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    places = {ROOT / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(item.path, len(LONG)), item.path not in slow))


def pytest_configure() -> None:
    """The pages of all workers share what they continue."""
    pages.begin()


def pytest_unconfigure() -> None:
    """What pages have left goes."""
    pages.clean()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test` gives it; CI=true in the environment means the same."""
    parser.addoption("--no-skip", action="store_true", help="a test that skips fails; absent shared data is no reason")


def _no_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config, why: object) -> None:
    """Where nothing may be skipped a missing part is an error: whatever skips there would go unseen."""
    strict = config.getoption("--no-skip") or os.environ.get("CI") == "true"
    if strict and report.skipped and not hasattr(report, "wasxfail") and not isinstance(why, AbsentData):
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped here: {told}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_skip(report, item.config, call.excinfo.value if call.excinfo else None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_skip(report, collector.config, None)
    return report

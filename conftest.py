"""Collects the examples in README.md and docs/ (tests/support/pages.py says how), and turns skips into failures where
CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from support import pages

pytest_collect_file = pages.pages.pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the pages that are slow, and puts files that hold something slow first: the last worker has little left."""
    for item in items:
        if item.path.suffix == ".md" and pages.slow(item.path):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure() -> None:
    """What pages have left goes."""
    pages.clean()


def _no_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where CI=true a missing part is an error: whatever skips there would go unseen."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true, where nothing may be skipped: {why}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_skip(report)
    return report

"""Collects the examples in README.md and docs/, and turns skips into failures where CI=true.

In a page, every ```python block runs, the blocks of one page in one namespace. A ```bash block runs if the line before
it is <!-- run -->: in a new folder for each page, with the commands of this environment on its path.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Region, Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

_RUN_BASH = re.compile(r"^<!-- run -->\n+```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _bash_blocks(document: Document) -> Generator[Region, None, None]:
    for match in _RUN_BASH.finditer(document.text):
        yield Region(match.start(), match.end(), match[1], _run_bash)


def _run_bash(example: Example) -> str | None:
    folder = example.namespace["folder"].name
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


def _open_folder(namespace: dict[str, Any]) -> None:
    namespace["folder"] = tempfile.TemporaryDirectory(prefix="recdistill-docs-")


def _close_folder(namespace: dict[str, Any]) -> None:
    namespace["folder"].cleanup()


_pages = Sybil(
    parsers=[PythonCodeBlockParser(), _bash_blocks],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    setup=_open_folder,
    teardown=_close_folder,
)
pytest_collect_file = _pages.pytest()


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

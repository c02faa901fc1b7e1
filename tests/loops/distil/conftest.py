"""A log with examples, written once, and a copy of it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import distilling

from recdistill.stream import Log


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distilling.write_log(tmp_path_factory.mktemp("written") / "log.sqlite")


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Iterator[Log]:
    yield from distilling.copied(written, tmp_path)

"""Settings of both logs, with topics of a test's own, for the tests that hold a contract on each of them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from recdistill.config import LogSettings


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LogSettings:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    if request.param == "kafka":
        return LogSettings(kind="kafka", brokers=request.getfixturevalue("kafka_brokers"), prefix=prefix)
    return LogSettings(path=str(tmp_path / "log.sqlite"), prefix=prefix)

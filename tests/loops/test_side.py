"""The canary of the registry: why it does not answer is said, whatever the reason is."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recdistill.errors import RegistryError
from recdistill.loops.side import TROUBLE, Side
from recdistill.registry import CANARY, BundleRef
from recdistill.serve import Ranker


class Registry:
    """A registry that says who is the canary, and does not hold its files at first."""

    def __init__(self) -> None:
        self.knows, self.holds = True, False

    def find(self, alias: str) -> BundleRef | None:
        assert alias == CANARY
        if not self.knows:
            raise RegistryError("the registry does not answer")
        return BundleRef(number="7", content_hash="c" * 64, uri="")

    def fetch(self, ref: BundleRef) -> Any:
        if not self.holds:
            raise RegistryError(f"the store does not hold weights.npy of {ref.content_hash[:12]}")
        return SimpleNamespace(content_hash=ref.content_hash, path=Path())


def test_a_canary_whose_files_are_not_there_is_said_and_serves_when_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, ranker, done = Registry(), Ranker(share=0.5), threading.Event()
    loaded: Any = SimpleNamespace(content_hash="c" * 64)
    side = Side(registry, ranker, SimpleNamespace(close=done.set), lambda _bundle: loaded)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            side.look(done)
    assert "cccccccccccc cannot be fetched, so the champion answers all users" in ranker.notes[TROUBLE]
    assert "the store does not hold weights.npy" in ranker.notes[TROUBLE]
    assert caplog.text.count("cannot be fetched") == 1
    registry.holds = True
    side.look(done)
    assert ranker.notes == {}
    assert [variant.role for variant in ranker.variants] == ["canary"]
    registry.knows = False
    side.look(done)
    assert ranker.notes == {}, "the follower of the champion says that"
    assert len(ranker.variants) == 1

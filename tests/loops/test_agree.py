"""The promoter's first look, after an older version of recdistill or a promoter that was killed there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.registries import ledger_at

from recdistill.loops.agree import Agree
from recdistill.registry import FormerEntry
from recdistill.release import bring_over


def former(step: int) -> FormerEntry:
    before = str(step - 1) if step > 1 else None
    return FormerEntry(
        step=step,
        kind="promote",
        before=before,
        after=str(step),
        content_hash=str(step) * 64,
        who="ada",
        why="good",
        at="2025-01-02T03:04:05+00:00",
    )


def test_a_history_that_was_brought_over_half_is_brought_over_whole(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, "shop")
    found = [former(1)]
    registry: Any = SimpleNamespace(
        name="shop",
        former=lambda: (found, []),
        aliases=lambda: {"champion": "3"},
        tags=lambda _: {},
        find=lambda _: None,
    )
    bring_over(registry, ledger, who="promoter")  # and here it was killed
    found += [former(2), former(3)]
    told: list[Any] = []
    agree = Agree(registry, ledger, "promoter", "follow", counts=Counter(), tell=lambda *said: told.append(said))
    agree()
    assert (ledger.state.steps, ledger.state.champion, told) == ({1, 2, 3}, "3", [])
    agree()
    assert [one.kind for one in ledger.state.changes] == ["promote"] * 3

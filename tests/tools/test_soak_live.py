"""The table of the full runs, and what does not hold in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import soak_live

SUMMARY: dict[str, Any] = {
    "seed": 1,
    "recovered": {
        "lead": 0.1234,
        "live": {"share": 0.95, "low": 0.9, "high": 1.0},
        "frozen": {"share": -0.2, "low": -0.3, "high": -0.1},
    },
    "showed": {"back": True, "frozen": True, "versions": True, "failed": True, "cost": True},
    "versions": {"judged": 30, "promoted": 20, "refused": 3},
    "failures": 0,
    "requests": 6000,
    "p50_ms": 2.34,
    "p99_ms": 9.87,
    "cost": {"teacher_s": 8.123, "student_s": 0.4, "ratio": 20.31},
    "ndcg@10": {"before": {"live": 0.5, "popularity": 0.4}, "after": {}, "end": {"live": 0.45}},
}


def test_a_run_becomes_a_row() -> None:
    first, second = soak_live.table([SUMMARY]).split("\n\n")
    assert first.splitlines()[2] == (
        "| 1 | 0.123 | 0.95 [0.90, 1.00] | -0.20 [-0.30, -0.10] | – | 30, 20, 3 | 0 of 6,000 | 2.3, 9.9 ms | "
        "8.12, 0.40 s | 20.3 |"
    )
    assert second.splitlines()[2] == "| 1 | before the turn | – | 0.500 | – | – | 0.400 |"
    nothing = {**SUMMARY, "recovered": {}, "cost": None, "p50_ms": None}
    assert soak_live.table([nothing]).splitlines()[2] == "| 1 | – | – | – | – | 30, 20, 3 | 0 of 6,000 | – | – | – |"


@pytest.mark.parametrize(
    ("showed", "wrong"),
    [
        ({"back": True, "cost": True}, []),
        ({"back": True, "cost": None}, ["cost"]),
        ({"back": False, "cost": None}, ["back", "cost"]),
        ({}, ["everything: nothing was measured"]),
    ],
)
def test_what_does_not_hold_is_named(showed: dict[str, Any], wrong: list[str]) -> None:
    assert soak_live.failed({"showed": showed}) == wrong


def test_a_run_that_was_made_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, back in ((4, True), (5, False)):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        kept = SUMMARY | {"seed": seed, "showed": SUMMARY["showed"] | {"back": back}}
        (folder / "summary.json").write_text(json.dumps(kept))
    monkeypatch.setattr("sys.argv", ["soak_live", "--seeds", "4,5", "--keep", str(tmp_path)])
    assert soak_live.main() == 1
    said = capsys.readouterr()
    assert [line.split(" | ")[0] for line in said.out.splitlines()[2:4]] == ["| 4", "| 5"]
    assert "seed 5: does not hold: back" in said.err
    assert "seed 4: does not" not in said.err

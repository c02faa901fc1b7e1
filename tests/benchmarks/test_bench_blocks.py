"""The benchmark of blocks: its rows, and a run that was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_blocks as bench
from benchmarks.blocks import read_blocks


def chosen(tmp_path: Path, blocks_file: Path, *words: str) -> argparse.Namespace:
    kept = ["--rows", str(tmp_path / "rows.jsonl"), "--students", str(tmp_path / "students")]
    small = ["--dim", "4", "--sampled", "30", "--taught", "5", "--epochs", "4", "--tuned", "1", "--batch", "16"]
    told: argparse.Namespace = bench.options().parse_args(["--data", str(blocks_file), *small, *kept, *words])
    return told


def test_it_prints_every_row_and_a_run_that_was_cut_off_goes_on(
    tmp_path: Path, blocks_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = read_blocks(blocks_file)
    told = chosen(tmp_path, blocks_file)
    rows = bench.Run(blocks, told, 0).rows()
    first = [next(rows) for _ in range(3)]  # and then it is cut off
    again = list(bench.Run(blocks, told, 0).rows())
    assert again[:3] == first
    assert [(row["block"], row["method"]) for row in again] == [
        (0, "full retrain"),
        *((1, name) for name in bench.ROWS),
    ]
    assert all(0 <= row["now"] <= 1 and len(row["blocks"]) == row["block"] + 1 for row in again)
    frozen = next(row for row in again if row["method"] == "frozen")
    assert frozen["epochs"] == 0
    monkeypatch.setattr(bench.Run, "_made", None)  # now nothing may be learnt
    assert list(bench.Run(blocks, told, 0).rows()) == again
    lines = bench.told(again)
    assert len(lines) == 1 + len(bench.ROWS)
    assert lines[-1].split()[-3:] == ["1.000", "1.000", "1.000"]


def test_a_student_that_learns_on_begins_where_it_stood(tmp_path: Path, blocks_file: Path) -> None:
    """Without an epoch it is the one of the block before, with the histories of now."""
    blocks = read_blocks(blocks_file)
    run = bench.Run(blocks, chosen(tmp_path, blocks_file, "--tuned", "0", "--only", "frozen;fine-tune"), 0)
    rows = list(run.rows())
    assert rows[1]["blocks"] == rows[2]["blocks"]


def test_without_its_data_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["bench_blocks", "--data", str(tmp_path / "none.tsv")])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 77
    assert "is not there" in capsys.readouterr().err

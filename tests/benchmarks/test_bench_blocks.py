"""The benchmark of blocks: its recall by brute force, its rows, and a run that was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from benchmarks import bench_blocks as bench
from benchmarks.tables.recipes import StudentForm
from benchmarks.tables.student import TableStudent

RANDOM = np.random.default_rng(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty users who like even or odd items; two blocks."""
    lines = ["block\tsplit\tuser\titem"]
    for user in range(30):
        liked = RANDOM.permutation(np.arange(user % 2, 60, 2))[:24]
        for block, part in ((0, liked[:14]), (1, liked[14:])):
            for at, item in enumerate(part):
                lines.append(f"{block}\t{'test' if at == 0 else 'valid' if at == 1 else 'train'}\t{user}\t{item}")
    path = tmp_path / "blocks.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def chosen(tmp_path: Path, data: Path, *words: str) -> argparse.Namespace:
    kept = ["--rows", str(tmp_path / "rows.jsonl"), "--students", str(tmp_path / "students")]
    small = ["--dim", "4", "--sampled", "30", "--taught", "5", "--epochs", "4", "--tuned", "1", "--batch", "16"]
    told: argparse.Namespace = bench.options().parse_args(["--data", str(data), *small, *kept, *words])
    return told


def test_recall_is_the_share_of_right_items_among_the_first(tmp_path: Path) -> None:
    table = sparse.csr_matrix((RANDOM.random((9, 40)) < 0.2).astype(np.float32))
    right = sparse.csr_matrix((RANDOM.random((9, 40)) < 0.1).astype(np.float32) + np.eye(9, 40, dtype=np.float32))
    student = TableStudent(table, StudentForm("history", bias=True, init=0.5), dim=3, seed=0)
    users = np.arange(9)
    found = bench.recall(student, bench.Asked(users, table, right), k=5)
    scores = student.scores(users)
    for user in users:
        wanted = set(right[user].indices.tolist())
        left = [item for item in range(40) if item in wanted or not table[user, item]]
        best = sorted(left, key=lambda item: -scores[user, item])[:5]
        assert found[user] == pytest.approx(len(wanted & set(best)) / len(wanted))


def test_the_teacher_is_item_neighbours_and_teaches_nothing_that_was_seen(data: Path) -> None:
    from recdistill.linear import itemknn

    seen = bench.read_blocks(data)[0].train
    scores = itemknn(seen, neighbours=60)(seen)
    taught = bench.Taught.of(seen, 5, temperature=1.0)
    for user in range(30):
        left = [item for item in range(60) if not seen[user, item] and scores[user, item] > 0]
        best = sorted(left, key=lambda item: -scores[user, item])[:5]
        found = [place for place in taught.places_UM[user].tolist() if place >= 0]
        np.testing.assert_allclose(scores[user, found], scores[user, best], rtol=1e-5)
        assert not set(found) & set(seen[user].indices.tolist())
        assert float(taught.shares_UM[user].sum()) == pytest.approx(1.0)


def test_the_tables_are_those_of_the_file(data: Path) -> None:
    blocks = bench.read_blocks(data)
    assert len(blocks) == 2
    assert [(part.shape, part.nnz) for part in blocks[0]] == [((30, 60), 360), ((30, 60), 30), ((30, 60), 30)]
    assert bench.union([blocks[0].train, blocks[0].train]).max() == 1.0


def test_it_prints_every_row_and_a_run_that_was_cut_off_goes_on(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = bench.read_blocks(data)
    told = chosen(tmp_path, data)
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


def test_a_student_that_learns_on_begins_where_it_stood(tmp_path: Path, data: Path) -> None:
    """Without an epoch it is the one of the block before, with the histories of now."""
    blocks = bench.read_blocks(data)
    run = bench.Run(blocks, chosen(tmp_path, data, "--tuned", "0", "--only", "frozen;fine-tune"), 0)
    rows = list(run.rows())
    assert rows[1]["blocks"] == rows[2]["blocks"]


def test_without_its_data_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["bench_blocks", "--data", str(tmp_path / "none.tsv")])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 77
    assert "is not there" in capsys.readouterr().err

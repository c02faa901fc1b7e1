"""Blocks of time: recall by brute force, the teacher by the linear room's own, the tables by their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from benchmarks import blocks
from benchmarks.tables.recipes import StudentForm
from benchmarks.tables.student import TableStudent

RANDOM = np.random.default_rng(0)


def test_recall_is_the_share_of_right_items_among_the_first() -> None:
    table = sparse.csr_matrix((RANDOM.random((9, 40)) < 0.2).astype(np.float32))
    right = sparse.csr_matrix((RANDOM.random((9, 40)) < 0.1).astype(np.float32) + np.eye(9, 40, dtype=np.float32))
    student = TableStudent(table, StudentForm("history", bias=True, init=0.5), dim=3, seed=0)
    users = np.arange(9)
    found = blocks.recall(student, blocks.Asked(users, table, right), k=5)
    scores = student.scores(users)
    for user in users:
        wanted = set(right[user].indices.tolist())
        left = [item for item in range(40) if item in wanted or not table[user, item]]
        best = sorted(left, key=lambda item: -scores[user, item])[:5]
        assert found[user] == pytest.approx(len(wanted & set(best)) / len(wanted))


def test_the_teacher_is_item_neighbours_and_teaches_nothing_that_was_seen(blocks_file: Path) -> None:
    from recdistill.linear import itemknn

    seen = blocks.read_blocks(blocks_file)[0].train
    scores = itemknn(seen, neighbours=60)(seen)
    taught = blocks.Taught.of(seen, 5, temperature=1.0)
    for user in range(30):
        left = [item for item in range(60) if not seen[user, item] and scores[user, item] > 0]
        best = sorted(left, key=lambda item: -scores[user, item])[:5]
        found = [place for place in taught.places_UM[user].tolist() if place >= 0]
        np.testing.assert_allclose(scores[user, found], scores[user, best], rtol=1e-5)
        assert not set(found) & set(seen[user].indices.tolist())
        assert float(taught.shares_UM[user].sum()) == pytest.approx(1.0)


def test_the_tables_are_those_of_the_file(blocks_file: Path) -> None:
    found = blocks.read_blocks(blocks_file)
    assert len(found) == 2
    assert [(part.shape, part.nnz) for part in found[0]] == [((30, 60), 360), ((30, 60), 30), ((30, 60), 30)]
    assert blocks.union([found[0].train, found[0].train]).max() == 1.0

"""Students of a table: each form against its formula in numpy."""

import numpy as np
import pytest
import torch
from scipy import sparse

from benchmarks.tables.recipes import StudentForm
from benchmarks.tables.student import TableStudent

RANDOM = np.random.default_rng(0)
TABLE = sparse.csr_matrix((RANDOM.random((6, 9)) < 0.4).astype(np.float32))
TABLE.sort_indices()


def made(form: str, **more: object) -> TableStudent:
    student = TableStudent(TABLE, StudentForm(form, bias=True, init=0.5, **more), dim=3, seed=1)  # type: ignore[arg-type]
    with torch.no_grad():
        student.biases_N.copy_(torch.randn(9))
        if form != "rows":
            student.matrix_DD.copy_(torch.randn(3, 3))
            student.start_D.copy_(torch.randn(3))
        if form == "tied":
            student.raw_N.copy_(torch.randn(9))
    return student


@pytest.mark.parametrize("form", ["rows", "history", "tied"])
def test_scores_are_the_formula(form: str) -> None:
    student = made(form)
    at = {name: value.numpy().astype(np.float64) for name, value in student.state_dict().items()}
    rows = TABLE.toarray()
    share = rows / np.sqrt(np.maximum(rows.sum(1, keepdims=True), 1))
    if form == "rows":
        users = at["rows_UD"]
    elif form == "history":
        users = share @ at["history_ND"] @ at["matrix_DD"] + at["start_D"]
    else:
        weights = np.log1p(np.exp(at["raw_N"] + np.log(np.e - 1)))
        users = (share * weights) @ at["items_ND"] @ at["matrix_DD"] + at["start_D"]
    expected = users @ at["items_ND"].T + at["biases_N"]
    asked = np.array([4, 0, 5])
    np.testing.assert_allclose(student.scores(asked), expected[asked], rtol=1e-4, atol=1e-5)


def test_a_user_without_history_has_the_start_alone() -> None:
    empty = sparse.csr_matrix((2, 9), dtype=np.float32)
    student = TableStudent(empty, StudentForm("history"), dim=3, seed=0)
    assert np.array_equal(student.scores(np.array([0, 1])), np.zeros((2, 9), np.float32))


@pytest.mark.slow
def test_dropout_drops_events_and_keeps_the_mean() -> None:
    student = made("history", dropout=0.5)
    everyone = torch.arange(6)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([student.users(everyone, generator=random) for _ in range(4000)])
        whole = student.users(everyone)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.allclose(drawn.mean(0), whole, atol=0.1)


def test_size_counts_what_is_learnt() -> None:
    assert TableStudent(TABLE, StudentForm("rows"), dim=3, seed=0).size == 4 * (6 * 3 + 9 * 3)
    assert TableStudent(TABLE, StudentForm("rows", bias=True), dim=3, seed=0).size == 4 * (6 * 3 + 9 * 3 + 9)
    assert TableStudent(TABLE, StudentForm("tied"), dim=3, seed=0).size == 4 * (9 * 3 + 9 + 9 + 3)

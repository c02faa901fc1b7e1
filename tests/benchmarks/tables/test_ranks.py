"""Ranks of what was asked, against sorting, by hand, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks.tables.ranks import figures, ranks_full, ranks_sampled, rivals_of

RANDOM = np.random.default_rng(0)
U, N = 30, 700
SCORES = RANDOM.normal(size=(U, N)).astype(np.float32)


def tables() -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    seen = (RANDOM.random((U, N)) < 0.02).astype(np.float32)
    asked = (RANDOM.random((U, N)) < 0.005).astype(np.float32) * (1 - seen)
    return sparse.csr_matrix(seen), sparse.csr_matrix(asked)


def test_full_ranks_are_those_of_a_sort() -> None:
    seen, asked = tables()
    found = [ranks.tolist() for ranks in ranks_full(lambda users: SCORES[users], seen, asked)]
    expected = []
    for user in range(U):
        free = SCORES[user][seen.toarray()[user] == 0]
        if items := asked[user].indices.tolist():
            expected.append([1 + int((free > SCORES[user, item]).sum()) for item in items])
    assert found == expected


def test_sampled_ranks_are_among_as_many_rivals_and_fair() -> None:
    seen, asked = tables()
    drawn = [
        np.concatenate(list(ranks_sampled(lambda users: SCORES[users], asked, rivals_of(seen, asked, 49, seed))))
        for seed in range(60)
    ]
    for row, rivals in zip(np.flatnonzero(np.diff(asked.indptr)), rivals_of(seen, asked, 49, 0), strict=True):
        assert len(set(rivals)) == 49
        assert not set(rivals) & {*seen[row].indices, *asked[row].indices}
    assert all(1 <= rank <= 50 for ranks in drawn for rank in ranks)
    # The expected rank is 1 + 49 times the share of never-had items above.
    expected = []
    for user in range(U):
        for item in asked[user].indices:
            free = (seen.toarray()[user] == 0) & (asked.toarray()[user] == 0)
            expected.append(1 + 49 * (SCORES[user][free] > SCORES[user, item]).mean())
    np.testing.assert_allclose(np.mean(drawn, 0), expected, atol=2.0)


@pytest.mark.parametrize("constant", [0.0, np.nan])
def test_who_scores_all_alike_does_as_chance_does(constant: float) -> None:
    users, random = 400, np.random.default_rng(3)
    asked = sparse.csr_matrix((np.ones(users), (np.arange(users), random.integers(0, N, users))), shape=(users, N))
    nothing = sparse.csr_matrix((users, N))
    alike = np.full((users, N), constant, np.float32)
    for ranks in (
        np.concatenate(list(ranks_full(lambda some: alike[some], nothing, asked))),
        np.concatenate(list(ranks_sampled(lambda some: alike[some], asked, rivals_of(nothing, asked, 499, 0))))
        * (N / 500),
    ):
        assert (ranks <= N / 4).mean() == pytest.approx(0.25, abs=0.07)
        assert ranks.max() > 0.95 * N


def test_what_is_not_a_number_is_last() -> None:
    asked = sparse.csr_matrix(([1.0], ([0], [7])), shape=(1, N))
    scores = SCORES[:1].copy()
    scores[0, 7] = np.nan
    [[full]] = ranks_full(lambda users: scores[users], sparse.csr_matrix((1, N)), asked)
    [[among]] = ranks_sampled(lambda users: scores[users], asked, rivals_of(asked * 0, asked, 499, 0))
    assert (full, among) == (N, 500)


def test_figures_by_hand() -> None:
    found = figures([np.array([1, 30]), np.array([11])], {"recall": (10,), "ndcg": (10, 20)})
    assert found["recall@10"].tolist() == [0.5, 0.0]
    assert found["ndcg@10"].tolist() == pytest.approx([1 / (1 + 1 / np.log2(3)), 0.0])
    assert found["ndcg@20"][1] == pytest.approx(1 / np.log2(12))

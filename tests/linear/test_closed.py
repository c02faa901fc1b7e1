"""Linear rankers against dense linear algebra written out from the papers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from recdistill import linear
from recdistill.errors import DataError
from recdistill.linear import closed

SHAPES = [(40, 12), (9, 30)]


@pytest.fixture(name="x", params=SHAPES, ids=["more users", "more items"])
def _x(request):
    random = np.random.default_rng(0)
    x = (random.random(request.param) < 0.3).astype(float)
    x[0, 3] = 0.0
    return x


def histories(count, rows=7, seed=1):
    random = np.random.default_rng(seed)
    return np.where(random.random((rows, count)) < 0.3, random.random((rows, count)), 0.0)


def dense_ease(x, l2):
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    weights = -p / np.diag(p)
    np.fill_diagonal(weights, 0.0)
    return weights


def dense_filter(x):
    of_user, of_item = np.maximum(x.sum(1), 1e-30), np.maximum(x.sum(0), 1e-30)
    rn = x / np.sqrt(of_user)[:, None] / np.sqrt(of_item)[None]
    return rn.T @ rn


def dense_itemknn(x, shrinkage):
    norms = np.sqrt(x.sum(0))
    weights = (x.T @ x) / (np.outer(norms, norms) + shrinkage)
    np.fill_diagonal(weights, 0.0)
    return weights


MODELS = {
    "ease": (lambda x: linear.ease(x, 7.0), lambda x: dense_ease(x, 7.0)),
    "ease, small l2": (lambda x: linear.ease(x, 0.3), lambda x: dense_ease(x, 0.3)),
    "filter": (linear.graph_filter, dense_filter),
    "itemknn": (lambda x: linear.itemknn(x, shrinkage=3.0), lambda x: dense_itemknn(x, 3.0)),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_formula(x, name):
    make, dense = MODELS[name]
    scorer = make(sparse.csr_matrix(x))
    h = histories(x.shape[1])
    scores = scorer(sparse.csr_matrix(h))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, h @ dense(x), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_blocks_change_nothing(x, name, monkeypatch):
    h = sparse.csr_matrix(histories(x.shape[1]))
    whole = MODELS[name][0](sparse.csr_matrix(x))(h)
    monkeypatch.setattr(closed, "_BLOCK", 3 * x.shape[1])
    np.testing.assert_allclose(MODELS[name][0](sparse.csr_matrix(x))(h), whole, rtol=1e-5, atol=1e-6)


def test_ease_of_too_many_items_keeps_the_most_popular(monkeypatch):
    random = np.random.default_rng(3)
    x = (random.random((30, 20)) < np.linspace(0.1, 0.8, 20)).astype(float)
    monkeypatch.setattr(closed, "MOST_INVERTED", 8)
    taken = np.sort(np.argsort(-x.sum(0), kind="stable")[:8])
    expected = np.zeros((20, 20))
    expected[np.ix_(taken, taken)] = dense_ease(x[:, taken], 2.0)
    h = histories(20)
    scorer = linear.ease(sparse.csr_matrix(x), 2.0)
    np.testing.assert_allclose(scorer(sparse.csr_matrix(h)), h @ expected, rtol=1e-5, atol=1e-6)


def test_itemknn_keeps_only_the_nearest():
    x = sparse.csr_matrix(np.array([[1.0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]))
    weights = linear.itemknn(x, neighbours=1).weights.toarray()
    assert (weights > 0).sum(1).tolist() == [1, 1, 1]


def test_blend_is_the_weighted_sum_of_standard_scores(x):
    matrix, h = sparse.csr_matrix(x), histories(x.shape[1])
    expected = np.zeros_like(h)
    for dense, weight in ((dense_ease(x, 7.0), 1.0), (dense_filter(x), 0.5)):
        s = h @ dense
        expected += weight * (s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True)
    blended = linear.blend([(linear.ease(matrix, 7.0), 1.0), (linear.graph_filter(matrix), 0.5)])
    np.testing.assert_allclose(blended(sparse.csr_matrix(h)), expected, rtol=1e-4, atol=1e-4)


def test_equal_scores_standardise_to_zero():
    assert linear.standardise(np.full((2, 3), 0.1, np.float32)).tolist() == [[0.0] * 3] * 2
    assert linear.standardise(np.zeros((1, 4))).tolist() == [[0.0] * 4]


def test_a_user_and_an_item_without_interactions_are_harmless(x):
    x[2], x[:, 1] = 0.0, 0.0
    h = sparse.csr_matrix(histories(x.shape[1]))
    for make, _ in MODELS.values():
        scores = make(sparse.csr_matrix(x))(h)
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(scores[:, 1], 0.0, atol=1e-6)


def test_what_cannot_be_fitted_says_so():
    with pytest.raises(DataError, match="no interaction at all"):
        linear.graph_filter(sparse.csr_matrix((3, 4)))
    with pytest.raises(DataError, match="l2: must be above 0, not 0"):
        linear.ease(sparse.csr_matrix(np.eye(3)), 0.0)
    with pytest.raises(DataError, match="at least one scorer"):
        linear.blend([])

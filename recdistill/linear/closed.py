"""Linear rankers in closed form: from interactions to a scorer of histories, without training in steps.

| function | scores of a history x | what it is |
| --- | --- | --- |
| `ease` | x · B, B the least-squares item-item matrix with a zero diagonal | Steck, 2019 |
| `graph_filter` | x · RnᵀRn, Rn the interactions over the root of both degrees | part of GF-CF, Shen et al., 2021 |
| `itemknn` | x · S, S shrunk cosines, the nearest neighbours only | Sarwar et al., 2001 |
| `blend` | a weighted sum of the above, each standardised per history | |

Interactions are a scipy CSR matrix users × items [U, N]. A scorer takes histories as a CSR matrix [B, N], whose values
are the weights of the events. It gives float32 scores [B, N]. It works on blocks of rows, so other memory is limited.
Items of the history get scores too: the caller masks them.

The judge's baselines, the linear teacher and the benchmarks use these functions.

It needs scipy. It knows nothing of records or torch.

Example:
    >>> from scipy import sparse
    >>> x = sparse.csr_matrix(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]))
    >>> scorer = ease(x, l2=1.0)
    >>> scores = scorer(sparse.csr_matrix(np.array([[1.0, 0, 0]])))
    >>> bool(scores[0, 1] > scores[0, 2]), scores.shape, scores.dtype
    (True, (1, 3), dtype('float32'))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.errors import DataError
from recdistill.metrics import top_k

Scorer = Callable[[Any], NDArray[np.float32]]
"""Scipy CSR histories [B, N] to float32 scores [B, N]."""

# One temporary block may hold so many numbers: 32 MB of float64.
_BLOCK = 4_000_000
MOST_INVERTED = 12_000
"""Rows of the largest matrix that `ease` inverts: 12,000² float64 are 1.2 GB, and the inverse needs that twice."""


@dataclass(frozen=True)
class ThroughItems:
    """scores = x · W, with W between items.

    Args:
        weights: [M, M], dense or CSR; row j is what one event of item j adds to all scores.
        count: N, the items of a history; M may be fewer.
        items_M: Which items the rows are, ascending; None when M = N. Other items do not count and score 0.
    """

    weights: Any
    count: int
    items_M: NDArray[np.int64] | None = None

    @property
    def size(self) -> int:
        """Bytes of what it has learnt, numbers and row indices in 32 bits."""
        return 4 * self.weights.size if isinstance(self.weights, np.ndarray) else 8 * int(self.weights.nnz)

    def __call__(self, x: Any) -> NDArray[np.float32]:
        """Scores [B, N] of CSR histories [B, N]."""
        scores_BN = np.zeros((x.shape[0], self.count), np.float32)
        columns: Any = slice(None) if self.items_M is None else self.items_M
        for rows in _blocks(x.shape[0], self.weights.shape[1]):
            part = x[rows] if self.items_M is None else x[rows][:, self.items_M]
            product = part.astype(self.weights.dtype) @ self.weights
            scores_BN[rows, columns] = product if isinstance(product, np.ndarray) else product.toarray()
        return scores_BN


@dataclass(frozen=True)
class ThroughUsers:
    """scores = (x ∘ before) · Xᵀ · K · X ∘ after + x ∘ own. The item-item matrix is never built.

    Args:
        interactions: X, CSR [U, N].
        before_N: Scale of each item of a history.
        between: K between users: [U, U], or its diagonal [U].
        after_N: Scale of each item's score.
        own_N: What an item of the history adds to its own score.
    """

    interactions: Any
    before_N: NDArray[np.float32]
    between: NDArray[np.float32]
    after_N: NDArray[np.float32]
    own_N: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Bytes of what it has learnt, numbers and row indices in 32 bits."""
        return 4 * (self.between.size + 3 * len(self.own_N)) + 8 * int(self.interactions.nnz)

    def __call__(self, x: Any) -> NDArray[np.float32]:
        """Scores [B, N] of CSR histories [B, N]."""
        users, count = self.interactions.shape
        scores_BN = np.empty((x.shape[0], count), np.float32)
        for rows in _blocks(x.shape[0], users + count):
            part = x[rows].astype(np.float32)
            # From the history to its users, through K, and back to items: one block of [B, U] and [B, N] at a time.
            like_BU = (part.multiply(self.before_N).tocsr() @ self.interactions.T).toarray()
            like_BU = like_BU @ self.between if self.between.ndim == 2 else like_BU * self.between
            scores_BN[rows] = (like_BU @ self.interactions) * self.after_N + part.multiply(self.own_N).toarray()
        return scores_BN


def ease(x: Any, l2: float = 500.0) -> ThroughItems | ThroughUsers:
    """EASE: the linear item-item model of least squares with a zero diagonal, in closed form.

    With P = (XᵀX + λI)⁻¹ the weights are B_ij = −P_ij / P_jj off the diagonal and 0 on it; scores are x · B (Steck,
    "Embarrassingly shallow autoencoders for sparse data", 2019). With fewer users than items, the same P comes from the
    user side: P = (I − Xᵀ(XXᵀ + λI)⁻¹X) / λ. If both sides are larger than `MOST_INVERTED`, only so many items take
    part: the most popular ones. The others score 0.

    Args:
        x: Interactions, CSR [U, N].
        l2: λ; larger is smoother.

    Raises:
        DataError: λ is not positive, or there is nothing in x.
    """
    x = _checked(x)
    if not 0 < l2 < np.inf:
        raise DataError(f"l2: must be above 0, not {l2}")
    users, count = x.shape
    if users < count and users <= MOST_INVERTED:
        # The user side: M = (XXᵀ + λI)⁻¹ is [U, U], which is the smaller matrix.
        inverse_UU = _inverse((x @ x.T).toarray(), l2)
        # diag(I − Xᵀ M X), a block of items at a time: Σ over the item's users u, v of x_u M_uv x_v.
        diagonal_N = np.empty(count)
        columns = x.T.tocsr()
        for items in _blocks(count, users):
            part = columns[items]
            diagonal_N[items] = 1.0 - np.asarray(part.multiply(part @ inverse_UU).sum(axis=1)).ravel()
        after_N = 1.0 / diagonal_N  # B_ij = −P_ij / P_jj: the λ of both cancel
        own_N = 1.0 - after_N  # x_j · (−P_jj / P_jj) is −x_j, where a zero diagonal wants 0
        return ThroughUsers(
            interactions=x.astype(np.float32),
            before_N=np.ones(count, np.float32),
            between=inverse_UU.astype(np.float32),
            after_N=after_N.astype(np.float32),
            own_N=own_N.astype(np.float32),
        )
    items_M = None
    if count > MOST_INVERTED:
        popular = np.argsort(-np.asarray(x.sum(axis=0)).ravel(), kind="stable")[:MOST_INVERTED]
        items_M = np.sort(popular).astype(np.int64)
        x = x[:, items_M]
    # The item side: invert XᵀX + λI, divide column j by −P_jj, and set the diagonal to 0.
    weights_MM = _inverse((x.T @ x).toarray(), l2)
    weights_MM /= -np.diag(weights_MM).copy()
    np.fill_diagonal(weights_MM, 0.0)
    return ThroughItems(weights_MM.astype(np.float32), count, items_M)


def graph_filter(x: Any) -> ThroughUsers:
    """The linear low-pass filter of the interaction graph: scores = x · (Rnᵀ Rn), Rn = D_u^(−1/2) X D_i^(−1/2).

    It is the part of GF-CF without the ideal filter (Shen et al., "How powerful is graph convolution for
    recommendation?", 2021).

    Args:
        x: Interactions, CSR [U, N].

    Raises:
        DataError: There is nothing in x.
    """
    x = _checked(x).astype(np.float32)
    of_user, of_item = (np.asarray(x.sum(axis=axis)).ravel() for axis in (1, 0))
    root_N = _reciprocal(np.sqrt(of_item))
    return ThroughUsers(
        interactions=x,
        before_N=root_N,
        between=_reciprocal(of_user),
        after_N=root_N,
        own_N=np.zeros(x.shape[1], np.float32),
    )


def itemknn(x: Any, *, shrinkage: float = 5.0, neighbours: int = 200) -> ThroughItems:
    """Item-based neighbours: Σ_{j in history} sim(i, j), sim(i, j) = c_ij / (sqrt(n_i n_j) + shrinkage).

    c_ij is the number of users who have both items, and n_i the number who have item i. It is the cosine over users
    (Sarwar et al., "Item-based collaborative filtering", 2001). Shrinkage makes a few common users count for little.
    Each item keeps only its nearest neighbours.

    Raises:
        DataError: There is nothing in x.
    """
    from scipy import sparse

    x = _checked(x)
    count = x.shape[1]
    norms_N = np.sqrt(np.asarray(x.sum(axis=0)).ravel())
    columns = x.T.tocsr()
    kept = []
    for block in _blocks(count, count):
        # Row j: how much one event of item j adds to every item. Only one block of rows is dense at a time.
        together = (columns[block] @ x).toarray()
        similar = together / np.maximum(np.outer(norms_N[block], norms_N) + shrinkage, 1e-12)
        rows = np.arange(len(similar))
        similar[rows, block.start + rows] = 0.0
        nearest = top_k(similar, neighbours)
        values = np.take_along_axis(similar, nearest, 1)
        indices = (np.repeat(rows, nearest.shape[1]), nearest.ravel())
        kept.append(sparse.csr_matrix((values.ravel(), indices), shape=similar.shape))
    weights = sparse.vstack(kept).tocsr()
    weights.eliminate_zeros()
    return ThroughItems(weights, count)


def standardise(scores_BN: NDArray[Any]) -> NDArray[np.float32]:
    """(score − mean) / standard deviation of each row; a row of equal scores becomes 0."""
    centred_BN = scores_BN - scores_BN.mean(axis=-1, keepdims=True, dtype=np.float64)
    spread_B1 = np.sqrt(np.square(centred_BN).mean(axis=-1, keepdims=True))
    # Equal scores differ a little by rounding. This difference must not become a ranking.
    flat_B1 = spread_B1 <= 1e-6 * np.abs(scores_BN).max(axis=-1, keepdims=True, initial=0.0)
    standard: NDArray[np.float32] = np.where(flat_B1, 0.0, centred_BN / np.where(flat_B1, 1.0, spread_B1)).astype(
        np.float32
    )
    return standard


def blend(scorers: Sequence[tuple[Scorer, float]]) -> Scorer:
    """Σ weight · `standardise`(scores): one scorer made of several. Their scales do not matter then.

    Args:
        scorers: Pairs of scorer and weight.

    Raises:
        DataError: There is no scorer.
    """
    if not scorers:
        raise DataError("a blend needs at least one scorer")

    def score(x: Any) -> NDArray[np.float32]:
        total_BN = np.zeros(x.shape, np.float32)
        for scorer, weight in scorers:
            scores_BN = scorer(x)
            for rows in _blocks(len(scores_BN), 4 * scores_BN.shape[1]):
                total_BN[rows] += np.float32(weight) * standardise(scores_BN[rows])
        return total_BN

    return score


def _checked(x: Any) -> Any:
    if not x.nnz:
        raise DataError("no interaction at all: a linear ranker needs some")
    return x.tocsr().astype(np.float64)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of the rows, so that a block of that width has at most `_BLOCK` numbers."""
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _inverse(gram: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    """(gram + λI)⁻¹ by Cholesky, because the matrix is positive definite: half the work of the general inverse."""
    from scipy.linalg import lapack

    gram[np.diag_indices_from(gram)] += l2
    factor, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise DataError(f"l2: {l2} is too small, the interactions cannot be inverted with it; raise it")
    inverse: NDArray[np.float64]
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    for row in range(1, len(inverse)):  # LAPACK fills only the lower half: copy it to the upper half
        inverse[:row, row] = inverse[row, :row]
    return inverse.T  # symmetric, so the same; in C order, because products with sparse matrices would copy it else


def _reciprocal(values: NDArray[Any]) -> NDArray[np.float32]:
    """1 / value, and 0 for 0: a user or item without interactions adds nothing."""
    inverse: NDArray[np.float32] = np.divide(1.0, values, out=np.zeros(len(values), np.float32), where=values > 0)
    return inverse

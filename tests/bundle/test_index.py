"""The index is the same bytes each time, and is left out where it would not find enough."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from recdistill.bundle.index import build_index, one_thread, read_index, search_index, with_one
from recdistill.errors import BundleError


def catalogue(count: int, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, dim))
    vectors = centres[rng.integers(0, 30, count)] + 0.4 * rng.normal(size=(count, dim))
    full = np.concatenate([vectors, rng.normal(scale=0.2, size=(count, 1)), np.ones((count, 1))], 1)
    return full.astype(np.float32), (centres + 0.2 * rng.normal(size=centres.shape)).astype(np.float32)


def test_same_vectors_same_bytes_and_true_recall() -> None:
    vectors, users = catalogue(6_000)
    data, info = build_index(vectors, users, exact_below=1000)
    assert data is not None
    assert build_index(vectors, users, exact_below=1000) == (data, info)
    assert info.recall >= 0.95
    index = read_index(data, info, count=6_000, width=17, source="i")
    keys = vectors[:, :-1]
    shares = []
    for user, found in zip(users, search_index(index, keys, with_one(users), 100, info.probes), strict=True):
        scores = vectors[:, :16] @ user + vectors[:, 16]
        best = np.argsort(-scores)[:100]
        assert (np.diff(scores[found]) <= 1e-6).all()
        shares.append(len(set(best) & set(found)) / 100)
    assert np.mean(shares) == pytest.approx(info.recall, abs=1e-4)


def test_without_enough_recall_every_item_is_scored() -> None:
    vectors, users = catalogue(3_000)
    assert build_index(vectors, users, exact_below=1000, recall=1.01)[0] is None
    assert build_index(vectors, users[:0], exact_below=1000)[1].kind == "exact"
    assert build_index(vectors, users)[1].kind == "exact"


def test_other_bytes_are_no_index() -> None:
    vectors, users = catalogue(3_000)
    data, info = build_index(vectors, users, exact_below=1000)
    assert data is not None
    with pytest.raises(
        BundleError, match="i: is not an index that recdistill writes: entries of the index: 3000, expected 2000"
    ):
        read_index(data, info, count=2_000, width=17, source="i")
    with pytest.raises(
        BundleError, match="i: is not an index that recdistill writes: begins with b'noth', not with b'IwSq'"
    ):
        read_index(b"nothing like it", info, count=3_000, width=17, source="i")


@pytest.mark.parametrize("probes", [0, 65])
def test_a_search_that_cannot_be_is_refused_before_a_request_comes(probes: int) -> None:
    vectors, users = catalogue(3_000)
    data, info = build_index(vectors, users, exact_below=1000)
    assert data is not None
    assert info.lists == 64
    with pytest.raises(BundleError, match=f"the manifest says {probes} probes of 64 cells"):
        read_index(data, msgspec.structs.replace(info, probes=probes), count=3_000, width=17, source="i")


def test_threads_of_faiss_are_given_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    with one_thread():
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before

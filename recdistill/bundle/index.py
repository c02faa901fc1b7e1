"""The search index of a bundle: made once, from the item vectors alone, and measured before it is shipped.

Below `EXACT_BELOW` items there is none: scoring everything is quicker than it is long. Above, faiss' inverted file with
8-bit scalar quantisation over `[vector, bias]`, which a user vector meets as `[user, 1]`. How many cells to probe is
chosen by
measurement: the fewest whose recall is high enough; where none is, the index is left out, and every item is scored.

Training is seeded and runs on one thread: the same vectors give the same bytes. It does not search for requests; that
is `serve.index`.

Example:
    >>> build_index(np.zeros((3, 6), np.float32), np.zeros((1, 4), np.float32))[1].kind
    'exact'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recdistill.bundle.manifest import IndexInfo
from recdistill.errors import BundleError
from recdistill.model import layout

EXACT_BELOW: Final = 50_000
RECALL: Final = 0.95
RECALL_AT: Final = 100
OVERSAMPLE: Final = 2  # the index finds so many times k, and the float vectors put them in order

Floats = npt.NDArray[np.float32]


def build_index(
    vectors_NW: Floats, queries_QD: Floats, *, exact_below: int = EXACT_BELOW, recall: float = RECALL
) -> tuple[bytes | None, IndexInfo]:
    """Trains, fills and measures an index.

    Args:
        vectors_NW: Vector, bias and history weight of N items, `[N, D+2]`.
        queries_QD: User vectors that are like those to come.
        exact_below: With fewer items there is no index.
        recall: Least recall@100.

    Returns:
        The bytes of `index.faiss`, or None for exact search; and what the manifest says of it.
    """
    count = len(vectors_NW)
    if count < exact_below or not len(queries_QD):
        return None, IndexInfo("exact")
    import faiss

    keys_NK = np.ascontiguousarray(vectors_NW[:, layout.KEY], np.float32)
    lists = 2 ** round(np.log2(np.sqrt(count)))
    with one_thread():
        quantizer = faiss.IndexFlatIP(keys_NK.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, keys_NK.shape[1], lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = 1234, 12, 128
        index.train(keys_NK)
        index.add(keys_NK)
        true = [np.argpartition(-(keys_NK @ query), RECALL_AT)[:RECALL_AT] for query in with_one(queries_QD)]
        probes = 1
        while True:
            found = search_index(index, keys_NK, with_one(queries_QD), RECALL_AT, probes)
            measured = float(np.mean([len(np.intersect1d(f, t)) / RECALL_AT for f, t in zip(found, true, strict=True)]))
            if measured >= recall or probes >= lists:
                break
            probes = min(2 * probes, lists)
    if measured < recall:
        return None, IndexInfo("exact")
    info = IndexInfo(
        kind="ivf_sq8",
        recall=round(measured, 4),
        recall_at=RECALL_AT,
        queries=len(queries_QD),
        lists=lists,
        probes=probes,
    )
    return faiss.serialize_index(index).tobytes(), info


def read_index(data: bytes, *, count: int, width: int, source: str) -> Any:
    """The faiss index of `index.faiss`.

    Raises:
        BundleError: It is not an index of `count` keys of `width` components.
    """
    import faiss

    try:
        index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    except (RuntimeError, AssertionError) as e:
        raise BundleError(f"{source}: is not a faiss index; export the bundle again") from e
    if (index.ntotal, index.d) != (count, width):
        raise BundleError(f"{source}: holds {index.ntotal} keys of {index.d}, expected {count} of {width}")
    return index


def search_index(
    index: Any, keys_NK: Floats, queries_QK: Floats, k: int, probes: int, selector: Any = None
) -> list[npt.NDArray[np.int64]]:
    """Slots of the best k keys for each query, best first; what the index finds is scored again in float.

    Args:
        index: A faiss IVF index over the keys. Searching changes nothing in it, so threads may share it.
        keys_NK: The keys in float.
        queries_QK: Queries of the same width.
        k: How many.
        probes: Cells to search.
        selector: A faiss IDSelector for the slots that may be found, or None for all.
    """
    import faiss

    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    if selector is not None:
        parameters.sel = selector
    _, found_QK = index.search(queries_QK, min(OVERSAMPLE * k, len(keys_NK)), params=parameters)
    best = []
    for query, found in zip(queries_QK, found_QK, strict=True):
        slots = found[found >= 0]
        scores = keys_NK[slots] @ query
        best.append(slots[np.lexsort((slots, -scores))][:k])
    return best


def with_one(users_BD: Floats) -> Floats:
    """User vectors as they meet `[vector, bias]`: with a 1 behind."""
    return np.concatenate([users_BD, np.ones((len(users_BD), 1), np.float32)], 1, dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs faiss on one thread, and gives the other threads back afterwards."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

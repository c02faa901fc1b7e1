"""The search index of a bundle. It is made once, from the item vectors, and measured before it is shipped.

With fewer than `EXACT_BELOW` items there is no index: scoring all items is faster than searching an index. With more,
the index is an inverted file of faiss with 8-bit scalar quantisation. Its keys are `[vector, bias]`, and a query is
`[user, 1]`, so their product is the score. Measurement decides how many cells are searched: the smallest number whose
recall is high enough. If no number is enough, there is no index, and every item is scored.

Training is seeded and runs on one thread, so the same vectors give the same bytes. `serve.index` searches for requests.

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

from recdistill.bundle import faiss_file
from recdistill.bundle.manifest import IndexInfo
from recdistill.errors import BundleError
from recdistill.model import layout

EXACT_BELOW: Final = 50_000
RECALL: Final = 0.95
RECALL_AT: Final = 100
OVERSAMPLE: Final = 2  # the index finds this many times k slots; the float vectors then choose the best k

Floats = npt.NDArray[np.float32]


def build_index(
    vectors_NW: Floats, queries_QD: Floats, *, exact_below: int = EXACT_BELOW, recall: float = RECALL
) -> tuple[bytes | None, IndexInfo]:
    """Trains, fills and measures an index.

    Args:
        vectors_NW: Vector, bias and history weight of N items, `[N, D+2]`.
        queries_QD: User vectors to measure with. They should be like those of real requests.
        exact_below: With fewer items there is no index.
        recall: Smallest recall@100 that is accepted.

    Returns:
        The bytes of `index.faiss`, or None for exact search; and the entry of the manifest about it.
    """
    count = len(vectors_NW)
    if count < exact_below or not len(queries_QD):
        return None, IndexInfo("exact")
    import faiss

    keys_NK = np.ascontiguousarray(vectors_NW[:, layout.KEY], np.float32)
    lists = 2 ** round(np.log2(np.sqrt(count)))  # cells: the power of two nearest to √N
    with one_thread():
        quantizer = faiss.IndexFlatIP(keys_NK.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, keys_NK.shape[1], lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        # k-means finds the centres of the cells: fixed seed, 12 rounds, at most 128 items for each centre.
        index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = 1234, 12, 128
        index.train(keys_NK)
        index.add(keys_NK)
        # For each query: its true best 100 slots, by exact scores. Then double the number of cells searched, until the
        # index finds enough of these slots.
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


def read_index(data: bytes, info: IndexInfo, *, count: int, width: int, source: str) -> Any:
    """The faiss index of `index.faiss`. Its bytes are checked before faiss reads them.

    Args:
        data: The file.
        info: What the manifest says about it.
        count: Keys that it must hold.
        width: Components of a key.
        source: Name of the file, for the errors.

    Raises:
        BundleError: It is not what recdistill writes for `count` keys of `width` components, or the manifest asks for a
            search that is not possible.
    """
    import faiss

    if not 1 <= info.probes <= info.lists <= count:
        raise BundleError(
            f"{source}: the manifest says {info.probes} probes of {info.lists} cells for {count} items, which cannot "
            "be; export the bundle again"
        )
    try:
        faiss_file.check(data, count=count, width=width, lists=info.lists)
        return faiss.deserialize_index(np.frombuffer(data, np.uint8))
    except (ValueError, RuntimeError, AssertionError) as e:
        raise BundleError(f"{source}: is not an index that recdistill writes: {e}; export the bundle again") from e


def search_index(
    index: Any, keys_NK: Floats, queries_QK: Floats, k: int, probes: int, selector: Any = None
) -> list[npt.NDArray[np.int64]]:
    """Slots of the best k keys for each query, best first.

    The index finds more than k slots, by approximate scores. These are scored again in float, and the best k are kept.

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
        slots = found[found >= 0]  # faiss fills up with -1 when it finds fewer
        scores = keys_NK[slots] @ query
        best.append(slots[np.lexsort((slots, -scores))][:k])  # by score, then by slot
    return best


def with_one(users_BD: Floats) -> Floats:
    """User vectors with a 1 at the end, so that the product with a key `[vector, bias]` adds the bias."""
    return np.concatenate([users_BD, np.ones((len(users_BD), 1), np.float32)], 1, dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs faiss on one thread in this block. Afterwards the number of threads is as before."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

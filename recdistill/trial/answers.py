"""Asks a bundle as its users would: through the recommender that serves it, and through its index.

The golden answers of a bundle come from an exact search. An index that was made for other vectors finds other items. So
the codes in the index are compared with the vectors, and the items that it finds with those of an exact search. Then
some items change, as they do while a bundle serves, and everything is asked again.

It knows nothing of processes.

Example:
    >>> scored("a bundle", ["x"], [float("inf")], 1)
    Traceback (most recent call last):
    recdistill.errors.BundleError: a bundle: an answer holds a score that is not finite; export the bundle again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from recdistill.bundle import Bundle, read_index
from recdistill.errors import BundleError
from recdistill.features import Asker
from recdistill.model import layout
from recdistill.records import Item
from recdistill.serve import Filters, RecommendAnswer, Recommender, Request
from recdistill.trial.towers import TOLERANCE, invented

K: Final = 10
SLACK: Final = 0.1
"""The index may find this share less of the best items than the manifest says: here it is measured on fewer users."""

BLOCK: Final = 20_000
CHANGED: Final = 8
"""So many items change in the trial, and so many new items come."""


def scored(source: str, items: Sequence[str], scores: Sequence[float], count: int) -> None:
    """Checks the form of an answer: `count` different items, each with a finite score.

    Raises:
        BundleError: The answer has another form.
    """
    again = "export the bundle again"
    if not np.isfinite(np.array(scores, float)).all():
        raise BundleError(f"{source}: an answer holds a score that is not finite; {again}")
    if len(items) != count or len(set(items)) != count or len(scores) != count:
        raise BundleError(
            f"{source}: an answer holds {len(set(items))} different items and {len(scores)} scores, expected {count}; "
            f"{again}"
        )


def check_index(bundle: Bundle) -> None:
    """Compares the codes that the index holds with the codes of the bundle's vectors. A bundle may have no index.

    Raises:
        BundleError: The index was made for other vectors.
    """
    if bundle.index is None:
        return
    count, width = bundle.vectors_NW.shape
    source = str(bundle.path / "index.faiss")
    index = read_index(bundle.index, bundle.manifest.content.index, count=count, width=width - 1, source=source)
    index.make_direct_map()
    wrong = 0
    for begin in range(0, count, BLOCK):
        keys_NK = np.ascontiguousarray(bundle.vectors_NW[begin : begin + BLOCK, layout.KEY], np.float32)
        held_NK = index.reconstruct_n(begin, len(keys_NK))
        wrong += int(np.count_nonzero((np.abs(held_NK - _coded(index, keys_NK)) > _steps(index)).any(1)))
    if wrong:
        raise BundleError(
            f"{source}: holds other vectors than the bundle for {wrong:,} of {count:,} items: it is the index of "
            "another version; export the bundle again"
        )


def check_requests(bundle: Bundle) -> None:
    """Asks the golden requests again, exactly and through the index, and invented ones.

    Raises:
        BundleError: An answer is not what it should be.
    """
    recommender, source = Recommender(bundle), str(bundle.path)
    recommender.check_golden()
    asked: list[Asker] = [*bundle.golden, *invented(bundle)]
    k = min(K, recommender.live)
    answers = recommender.recommend([_request(one) for one in asked], k)
    scores_BT = recommender.score_all(asked)
    if not np.isfinite(scores_BT).all():
        raise BundleError(f"{source}: an item gets a score that is not finite; export the bundle again")
    slot_of = {item: slot for slot, item in enumerate(recommender.ids)}
    found = []
    for answer, scores_T in zip(answers, scores_BT, strict=True):
        scored(source, answer.items, answer.scores, k)
        exact = scores_T[[slot_of[item] for item in answer.items]]
        if (np.abs(exact - answer.scores) > TOLERANCE * np.maximum(1.0, np.abs(exact))).any():
            raise BundleError(f"{source}: an item has another score in an answer than alone; export the bundle again")
        if answer.source not in ("popular", "mixed"):  # these begin with popular items, so they are not compared
            least = np.partition(scores_T, len(scores_T) - k)[len(scores_T) - k]
            found.append(np.mean(exact >= least - TOLERANCE * max(1.0, abs(float(least)))))
    expected = bundle.manifest.content.index.recall - SLACK
    if found and np.mean(found) < expected:
        raise BundleError(
            f"{source}: answers hold {np.mean(found):.3f} of the best {k} items, and the manifest says "
            f"{bundle.manifest.content.index.recall:.3f}; export the bundle again"
        )


def check_overlay(bundle: Bundle) -> None:
    """Adds, changes and withdraws items, as while a bundle serves, and asks again.

    Raises:
        BundleError: An answer is not what it should be.
    """
    recommender, source = Recommender(bundle), str(bundle.path)
    step = max(1, len(bundle.items) // CHANGED)
    some = bundle.items[::step][:CHANGED]
    new = [Item(f"trial-{bundle.content_hash[:16]}-{n}", 1, attributes=item.attributes) for n, item in enumerate(some)]
    turned = [
        msgspec.structs.replace(item, version=item.version + 1, attributes=other.attributes)
        for item, other in zip(some, [*some[1:], *some[:1]], strict=True)
    ]
    gone = msgspec.structs.replace(some[0], version=some[0].version + 2, withdrawn=True)
    records = [*new, *turned, *([gone] if len(bundle.items) > 1 else [])]
    counts = recommender.apply_items(records, recommender.position + len(records))
    if counts["refused"]:
        raise BundleError(f"{source}: refuses {counts['refused']} items with attributes of its own items")
    users: list[Asker] = [*bundle.golden, *invented(bundle)[:K], Request()]
    asked = [_request(one) for one in users]
    k = min(K, recommender.live)
    for answer in recommender.recommend(asked, k):
        scored(f"{source}, after items have changed", answer.items, answer.scores, k)
        if gone.id in answer.items and len(bundle.items) > 1:
            raise BundleError(f"{source}: an answer holds an item that was withdrawn; this is a defect, report it")
    _each(recommender, f"{source}, new items", asked, [item.id for item in new])
    _each(recommender, f"{source}, changed items", asked, [item.id for item in turned if item.id != gone.id])


def _each(recommender: Recommender, source: str, asked: Sequence[Request], items: Sequence[str]) -> None:
    """Asks for exactly these items."""
    if items:
        answers: list[RecommendAnswer] = recommender.recommend(asked, len(items), Filters(allow=frozenset(items)))
        for answer in answers:
            scored(source, answer.items, answer.scores, len(items))


def _request(one: Asker) -> Request:
    return Request(tuple(one.history), dict(one.context), (), one.time_us)


def _coded(index: Any, keys_NK: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The keys as the index holds them: turned into its 8-bit codes, and back into numbers."""
    lowest_K, range_K = _ranges(index)
    codes_NK = np.clip(np.floor(255 * (keys_NK - lowest_K) / np.where(range_K > 0, range_K, 1)), 0, 255)
    coded_NK: np.ndarray[Any, Any] = lowest_K + (codes_NK + 0.5) / 255 * range_K
    return coded_NK


def _steps(index: Any) -> np.ndarray[Any, Any]:
    """The width of one code step in each component, and a little more, because processors round differently."""
    steps_K: np.ndarray[Any, Any] = 1.01 * _ranges(index)[1] / 255 + 1e-6
    return steps_K


def _ranges(index: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    import faiss

    trained = faiss.vector_to_array(index.sq.trained)
    return trained[: index.d], trained[index.d :]

"""Makes a bundle from a student's weights.

The same weights, vocabulary and catalogue give the same content hash on every build. No clock, host or run id enters
the content. Item vectors and golden answers are computed in numpy (`model.forward`). The ONNX graphs are compared with
them before anything is written. The results are in the provenance, under `measured`.

It knows nothing of torch, of the trainer or of registries.

Example:
    >>> from recdistill.features import FeatureSpec
    >>> spec = FeatureSpec()
    >>> vocabulary = Vocabulary(spec)
    >>> catalogue = Catalogue(spec, vocabulary)
    >>> export({}, spec, vocabulary, catalogue, Path("out"), provenance={}, popular=[], base_position=0)
    Traceback (most recent call last):
    recdistill.errors.DataError: the catalogue has no live item: there is nothing that a student could recommend
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.bundle import Bundle, Golden, build_index, write_bundle
from recdistill.errors import BundleError, DataError
from recdistill.features import Asker, Catalogue, FeatureError, FeatureSpec, Requests, Vocabulary, encode_requests
from recdistill.model import forward, graphs, layout, quantise, run
from recdistill.records import Event, Item, Value

GOLDEN_K: Final = 10
MAX_GOLDEN: Final = 100
PARITY: Final = 1e-4  # largest difference allowed between a score of the graphs and of numpy, for scores of size one
_SYNTHETIC: Final = 256  # invented histories; with the golden requests they are the queries that measure the index

Floats = npt.NDArray[np.float32]


class _Places(NamedTuple):
    """Slots of the bundle's own catalogue. It holds the live items only."""

    slot_of: Mapping[str, int]


class _Invented(NamedTuple):
    """An invented request."""

    history: tuple[Event, ...]
    context: dict[str, Any]
    time_us: int


def export(
    weights: Mapping[str, np.ndarray],
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    catalogue: Catalogue,
    out: Path,
    *,
    provenance: Mapping[str, Any],
    popular: Sequence[tuple[str, float]],
    base_position: int,
    golden_requests: Sequence[Asker] = (),
    beside: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Writes a bundle.

    Args:
        weights: All weights by contract name, float32.
        spec: The feature specification they belong to.
        vocabulary: The vocabulary they belong to.
        catalogue: Items; the live ones go into the bundle, in slot order.
        out: Folder of the bundle, which must not exist yet.
        provenance: Where it comes from. `measured` is added to it: `parity_max_abs` compares the scores of the float
            graphs with numpy. `int8_score_max_abs` and `int8_overlap_10` compare scores and the best ten items of
            int8 item vectors with those of float vectors.
        popular: Items with their weights, most popular first. Items that are not live are left out.
        base_position: Next offset of `items` that the catalogue has not seen.
        golden_requests: Requests whose answers go into the bundle. At most `MAX_GOLDEN` are taken. Context fields that
            the specification does not know are left out. Without any request, one empty request is taken.
        beside: Files that travel with it, by name.

    Raises:
        DataError: No item is live, or the weights do not fit.
        BundleError: The graphs do not compute what numpy does, or `out` is taken.
    """
    slots = np.flatnonzero(catalogue.live_N)
    if not len(slots):
        raise DataError("the catalogue has no live item: there is nothing that a student could recommend")
    user_tower, item_tower = graphs.user_tower(weights, spec), graphs.item_tower(weights, spec)

    # Vectors of the live items, from numpy. From here on an item's slot is its place in `items`.
    encoded = catalogue.encoded(slots)
    vectors_NW = forward.items(weights, spec, encoded)
    items = [catalogue.item(int(slot)) for slot in slots]
    places = _Places({item.id: slot for slot, item in enumerate(items)})

    # The golden requests. Context values that cannot be encoded are left out, so that a request can be asked again.
    asked = list(golden_requests)[:MAX_GOLDEN]
    asked += [] if asked else [_Invented((), {}, 0)]
    errors: list[FeatureError] = []
    requests = encode_requests(spec, vocabulary, places, asked, errors=errors)
    wrong = {(e.row, e.field) for e in errors}
    contexts = [
        {
            name: v
            for name, v in request.context.items()
            if name in spec.context and (row, f"context.{name}") not in wrong
        }
        for row, request in enumerate(asked)
    ]
    users_BD = forward.users(weights, spec, vectors_NW, requests)
    scores_BN = forward.scores(users_BD, vectors_NW)

    # The same scores from the ONNX graphs. An empty place of a history has slot -1. It takes the vector of slot 0 here,
    # and the user tower masks it.
    tower_vectors_NW = run.ItemTower(item_tower, source="item_tower.onnx")(encoded)
    history_BHW = tower_vectors_NW[np.maximum(requests.history_slots_BH, 0)]
    tower_users_BD = run.UserTower(user_tower, source="user_tower.onnx")(requests, history_BHW)
    tower_scores_BN = forward.scores(tower_users_BD, tower_vectors_NW)
    parity = _largest(tower_scores_BN - scores_BN)
    if not parity <= PARITY * max(1.0, _largest(scores_BN)):
        raise BundleError(f"the graphs differ from the weights by {parity:.2g}; this is a defect, please report it")

    # The index is measured with golden and invented users together.
    wide_BD = np.concatenate([users_BD, _synthetic_users(weights, spec, vocabulary, vectors_NW, popular, places)])
    index, info = build_index(vectors_NW, wide_BD)
    measured = {"parity_max_abs": parity, **_int8_figures(weights, spec, vectors_NW, requests, scores_BN)}
    return write_bundle(
        out,
        spec=spec,
        vocabulary=vocabulary,
        items=items,
        vectors_NW=vectors_NW,
        user_tower=user_tower,
        item_tower=item_tower,
        opsets=graphs.OPSETS,
        index=index,
        index_info=info,
        popular=[(item, weight) for item, weight in popular if item in places.slot_of],
        golden=[_golden(*each, items) for each in zip(asked, contexts, scores_BN, strict=True)],
        base_position=base_position,
        provenance={**provenance, "measured": measured},
        beside=beside,
    )


def _golden(request: Asker, context: dict[str, Value], scores_N: Floats, items: Sequence[Item]) -> Golden:
    best = np.lexsort((np.arange(len(scores_N)), -scores_N))[:GOLDEN_K]  # by score, then by slot
    return Golden(
        history=tuple(request.history),
        context=context,
        time_us=request.time_us,
        items=tuple(items[slot].id for slot in best),
        # Five digits. The last bits of a product depend on the machine, and the content must not.
        scores=tuple(round(float(scores_N[slot]), 5) for slot in best),
    )


def _synthetic_users(
    weights: Mapping[str, np.ndarray],
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    vectors_NW: Floats,
    popular: Sequence[tuple[str, float]],
    places: _Places,
) -> Floats:
    """Vectors of users with invented histories. The index is measured with them.

    Every second history is drawn from the popular items, the others from all items.
    """
    ids = list(places.slot_of)
    liked = [item for item, _ in popular if item in places.slot_of] or ids
    rng = np.random.default_rng(0)
    invented = []
    for i in range(_SYNTHETIC):
        pool = liked if i % 2 else ids
        chosen = rng.integers(0, len(pool), size=1 + i % min(spec.history.length, 20))
        invented.append(_Invented(tuple(Event(pool[c]) for c in chosen), {}, 0))
    return forward.users(weights, spec, vectors_NW, encode_requests(spec, vocabulary, places, invented))


def _int8_figures(
    weights: Mapping[str, np.ndarray], spec: FeatureSpec, vectors_NW: Floats, requests: Requests, scores_BN: Floats
) -> dict[str, float]:
    """How much scores and the best ten items change with the device's int8 vectors.

    The int8 vectors are used for the items of the history and for the items of the catalogue.
    """
    # The catalogue again, but each vector is its int8 form times its scale. Bias and history weight stay as they are.
    quantised_ND, scales_N = quantise(vectors_NW[:, layout.VECTOR])
    coarse_NW = vectors_NW.copy()
    coarse_NW[:, layout.VECTOR] = quantised_ND * scales_N.astype(np.float32)[:, None]
    coarse_BN = forward.scores(forward.users(weights, spec, coarse_NW, requests), coarse_NW)
    # The share of the best k slots that both have, as a mean over the requests.
    k = min(GOLDEN_K, len(vectors_NW))
    tops = [np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in (scores_BN, coarse_BN)]
    shared = [len(np.intersect1d(a, b)) / k for a, b in zip(*tops, strict=True)]
    return {"int8_score_max_abs": _largest(coarse_BN - scores_BN), "int8_overlap_10": float(np.mean(shared))}


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))

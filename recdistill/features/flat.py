"""Columns -> masked numpy batches: what `encode_examples` makes of records, made of columns and equal to it.

A step works on all lists at once. New context values are admitted in the same order, so the vocabulary is the same too.

It does not know weights or torch.

Example:
    >>> from recdistill.features.spec import FeatureSpec
    >>> from recdistill.records import Candidate, Example, Impression, Item, Ranking, encode, read_columns
    >>> spec = FeatureSpec()
    >>> vocabulary = Vocabulary(spec)
    >>> catalogue = Catalogue(spec, vocabulary)
    >>> slots = [catalogue.apply(Item(name), admit=True) for name in "ab"]
    >>> asked = Impression("r", 9, candidates=(Candidate("b"), Candidate("gone")))
    >>> example = Example(Ranking(asked, "t", "1", "logit", (1.5, 0.5), (True, True)), (1.0, 0.0), "closed")
    >>> columns, refused = read_columns(Example, [encode(example)])
    >>> lists = encode_columns(spec, vocabulary, catalogue, columns)
    >>> lists.candidate_slots_BL.tolist(), lists.teacher_scores_BL.tolist()
    ([[1, -1]], [[1.5, 0.0]])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.features.catalogue import Catalogue
from recdistill.features.encode import Lists, Requests, age_buckets
from recdistill.features.spec import FeatureError, FeatureSpec
from recdistill.features.values import encode_column
from recdistill.features.vocabulary import Vocabulary
from recdistill.records import Columns, Ids


def encode_columns(
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    catalogue: Catalogue,
    columns: Columns,
    *,
    admit: bool = False,
    errors: list[FeatureError] | None = None,
) -> Lists:
    """Encodes the lists of some columns; the other arguments, and errors, as in `encode_requests`."""
    requests, slots_C = _requests(spec, catalogue, columns)
    context = {
        name: encode_column(
            f"context.{name}",
            field,
            [one.get(name) for one in columns.contexts],
            vocabulary,
            admit=admit,
            errors=errors,
        )
        for name, field in spec.context.items()
    }
    counts_B = columns.counts_E
    filled_BL = np.arange(max(1, int(counts_B.max(initial=0)))) < counts_B[:, None]
    # A candidate that the catalogue does not know counts as absent, with its score and its label.
    known_C = slots_C >= 0
    scored_C = columns.scored_C & known_C
    offsets_BL = None
    if columns.chanced_E.any():
        offsets_C = -np.log(columns.chances_C.astype(np.float64))
        offsets_BL = _spread(filled_BL, np.where(np.repeat(columns.chanced_E, counts_B), offsets_C, 0.0), 0, np.float32)
    served_C = np.repeat(np.array([origin == "served" for origin in columns.origins], bool), counts_B)
    known_chance_C = served_C & (columns.propensities_C < 1)  # NaN is not
    shown_BL = None
    if known_chance_C.any():
        shown_BL = _spread(filled_BL, np.where(known_chance_C, columns.propensities_C, np.float32(1)), 1, np.float32)
    return Lists(
        requests=Requests(context=context, **requests),
        candidate_slots_BL=_spread(filled_BL, slots_C, -1, np.int32),
        where_BL=_spread(filled_BL, known_C, False, np.bool_),
        teacher_scores_BL=_spread(filled_BL, np.where(scored_C, columns.scores_C, np.float32(0)), 0, np.float32),
        scored_BL=_spread(filled_BL, scored_C, False, np.bool_),
        labels_BL=_spread(filled_BL, np.where(known_C, columns.labels_C, np.float32(0)), 0, np.float32),
        label_known_B=np.array([state != "none" for state in columns.states], dtype=bool),
        weights_B=(1.0 / columns.sampled_E).astype(np.float32),
        offsets_BL=offsets_BL,
        soft_B=np.array([state != "labels" for state in columns.states], dtype=bool),
        shown_BL=shown_BL,
    )


def _spread(filled_BL: npt.NDArray[np.bool_], flat: npt.NDArray[Any], empty: Any, kind: Any) -> npt.NDArray[Any]:
    """Members one after the other -> rows, each filled from its start."""
    spread_BL = np.full(filled_BL.shape, empty, dtype=kind)
    spread_BL[filled_BL] = flat
    return spread_BL


def _requests(
    spec: FeatureSpec, catalogue: Catalogue, columns: Columns
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int32]]:
    """The fields of `Requests` that come from the histories, and the slots of the candidates."""
    length, batch = spec.history.length, len(columns)
    events_B, times_H = columns.events_E, columns.event_times_H
    stops_B = np.cumsum(events_B)
    rows_H = np.repeat(np.arange(batch), events_B)
    now_H = columns.times_E[rows_H]
    before_H = (now_H == 0) | (times_H < now_H)
    # Look up the newest `length` events of each list. Nearly always all of them count. For the other lists look up the
    # whole history: older events fill the places.
    from_end_H = stops_B[rows_H] - np.arange(len(rows_H))  # 1 for the newest event
    wanted_H = from_end_H <= length
    slots_H = np.full(len(rows_H), -1, np.int32)
    # One call looks up candidates and events.
    wanted = Ids.join([columns.items, columns.event_items[wanted_H]])
    slots_N = catalogue.slots_in(wanted.data, wanted.starts_N, wanted.sizes_N)
    slots_C = slots_N[: len(columns.items)]
    slots_H[wanted_H] = slots_N[len(columns.items) :]
    wanting_B = np.zeros(batch, bool)
    wanting_B[rows_H[wanted_H & ((slots_H < 0) | ~before_H)]] = True
    wanting_B &= events_B > length
    if wanting_B.any():
        more_H = wanting_B[rows_H] & ~wanted_H
        more = columns.event_items[more_H]
        slots_H[more_H] = catalogue.slots_in(more.data, more.starts_N, more.sizes_N)
        wanted_H |= more_H
    counts_H = wanted_H & before_H & (slots_H >= 0)
    # How many events of the list count, of this one and the newer ones.
    passed_H = np.cumsum(counts_H)
    through_B = np.concatenate([[0], passed_H])[stops_B]
    newer_H = through_B[rows_H] - passed_H
    unknown_H = wanted_H & before_H & (slots_H < 0) & (newer_H < length)
    kept_H = counts_H & (newer_H < length)
    kept = np.flatnonzero(kept_H)
    place = (rows_H[kept], newer_H[kept])
    slots_BH = np.full((batch, length), -1, np.int32)
    actions_BH, ages_BH = np.zeros((batch, length), np.int32), np.zeros((batch, length), np.int32)
    slots_BH[place] = slots_H[kept]
    ages_H = np.where((now_H > 0) & (times_H > 0), now_H - times_H, 0)  # 0: unknown
    ages_BH[place] = age_buckets(ages_H[kept])
    if spec.history.actions:
        row_of = {action: row for row, action in enumerate(spec.history.actions, 1)}
        rows = np.array([row_of.get(action, 0) for action in columns.actions], np.int32)
        actions_BH[place] = rows[columns.action_H[kept]]
    requests = {
        "history_slots_BH": slots_BH,
        "history_actions_BH": actions_BH,
        "history_ages_BH": ages_BH,
        "unknown_B": np.bincount(rows_H[unknown_H], minlength=batch).astype(np.int32),
    }
    return requests, slots_C

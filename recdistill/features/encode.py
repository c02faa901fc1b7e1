"""Requests and examples -> masked numpy batches. Training and serving run the same code.

Unknown context names are ignored. A value of the wrong kind is an error that names its field. Where the caller collects
errors, such a value counts as absent.

It does not know weights or torch.

Example:
    >>> from recdistill.features.spec import FeatureSpec
    >>> from recdistill.records import Event, Impression, Item
    >>> spec = FeatureSpec()
    >>> vocabulary = Vocabulary(spec)
    >>> catalogue = Catalogue(spec, vocabulary)
    >>> slots = [catalogue.apply(Item(name), admit=True) for name in "ab"]
    >>> impression = Impression("r", 9_000_001, history=(Event("a", 1), Event("gone", 2), Event("b", 3)))
    >>> requests = encode_requests(spec, vocabulary, catalogue, [impression])
    >>> requests.history_slots_BH[0, :3].tolist(), requests.history_ages_BH[0, :3].tolist(), requests.unknown_B.tolist()
    ([1, 0, -1], [4, 4, 0], [1])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from recdistill.features.catalogue import Catalogue
from recdistill.features.spec import FeatureError, FeatureSpec
from recdistill.features.values import encode_column
from recdistill.features.vocabulary import Vocabulary
from recdistill.records import Event, Example, Impression, Value

AGE_BUCKETS: Final = 32
# Bucket b holds ages from the b-th of these on: (2^(b-1) - 1) seconds, in whole microseconds.
_AGE_FROM_US: Final = np.array(
    [((1 << exponent) - 1) * 1_000_000 for exponent in range(AGE_BUCKETS - 1)], dtype=np.int64
)


class Asker(Protocol):
    """What a request must have. An `Impression` and a `serve.Request` have it."""

    @property
    def history(self) -> Sequence[Event]:
        """Oldest first."""

    @property
    def context(self) -> Mapping[str, Value]:
        """By name of the field."""

    @property
    def time_us(self) -> int:
        """Microseconds since the epoch; 0: unknown."""


class Places(Protocol):
    """Where items are: a `Catalogue`, or another object that gives each item id a slot."""

    @property
    def slot_of(self) -> Mapping[str, int]:
        """Slot by item id."""


@dataclass(frozen=True)
class Requests:
    """B requests with up to H events each.

    Args:
        history_slots_BH: Catalogue slots, **newest first**, -1 where there is none. Events of items that the catalogue
            never saw are left out. So are events that are not before the request, where both times are known.
        history_actions_BH: Row of the action, 0 for an unknown one.
        history_ages_BH: Bucket of the age, see `age_buckets`.
        context: One array [B, width] a field by its plain name (see `values`).
        unknown_B: Events left out because the catalogue never saw their item.
    """

    history_slots_BH: npt.NDArray[np.int32]
    history_actions_BH: npt.NDArray[np.int32]
    history_ages_BH: npt.NDArray[np.int32]
    context: dict[str, npt.NDArray[Any]]
    unknown_B: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Lists:
    """B examples with up to L candidates each; L is the longest list of the batch, at least 1.

    Args:
        requests: Their requests.
        candidate_slots_BL: Catalogue slots, -1 beyond the end of the list and for items that the catalogue never saw.
        where_BL: Where there is a candidate that the catalogue knows.
        teacher_scores_BL: 0 where missing.
        scored_BL: Where the teacher's score is real and `where_BL` holds.
        labels_BL: 0 where there is none.
        label_known_B: Whether the label window has closed; otherwise labels say nothing.
        weights_B: 1 / p, where p is the probability that the teacher scored the list. With this weight, sums over the
            scored lists estimate the sums over all lists.
        offsets_BL: −log p of each candidate, where p is the probability that the teacher scored it, given that its list
            was chosen. It is added to the logits of student and teacher, so that the scored candidates stand for the
            whole list. None when every p of the batch is 1.
        soft_B: Whether the scores teach. They do not where they were an example of their own before, and this one has
            the labels alone.
        shown_BL: How often the endpoint expects to show each candidate at its place: its propensity. 1 where it is not
            known. None when every one of the batch is 1. Lists that another product made have none.
    """

    requests: Requests
    candidate_slots_BL: npt.NDArray[np.int32]
    where_BL: npt.NDArray[np.bool_]
    teacher_scores_BL: npt.NDArray[np.float32]
    scored_BL: npt.NDArray[np.bool_]
    labels_BL: npt.NDArray[np.float32]
    label_known_B: npt.NDArray[np.bool_]
    weights_B: npt.NDArray[np.float32]
    offsets_BL: npt.NDArray[np.float32] | None
    soft_B: npt.NDArray[np.bool_]
    shown_BL: npt.NDArray[np.float32] | None = None


def age_buckets(ages_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Buckets of ages in microseconds, int32 of the same shape.

    An age that is not above 0 is unknown: bucket 0. Another is in `1 + min(30, floor(log2(1 + age in seconds)))`, exact
    at the borders.
    """
    buckets = np.searchsorted(_AGE_FROM_US, ages_us, side="right")
    return np.where(ages_us > 0, buckets, 0).astype(np.int32)


def encode_requests(
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    catalogue: Places,
    requests: Sequence[Asker],
    *,
    admit: bool = False,
    errors: list[FeatureError] | None = None,
) -> Requests:
    """Encodes requests.

    Args:
        spec: What counts.
        vocabulary: Rows of context categories.
        catalogue: Slots of history items.
        requests: B of them.
        admit: Whether new context categories get rows of their own. Only the trainer does this, in lane order.
        errors: Where given, each context value of the wrong kind is added here and counts as absent.

    Raises:
        FeatureError: For the first context value of the wrong kind, when `errors` is None; `row` says which request.
    """
    length = spec.history.length
    action_rows = {action: row for row, action in enumerate(spec.history.actions, 1)}
    find = catalogue.slot_of.get
    action_of = action_rows.get
    batch = len(requests)
    counts: list[int] = []
    slots: list[int] = []
    actions: list[int] = []
    ages: list[int] = []
    unknown_B = np.zeros(batch, dtype=np.int32)
    # Events go into flat lists, one request after the other; `counts` says how many each request has.
    for row, request in enumerate(requests):
        now = request.time_us
        history = request.history
        events: Sequence[Event] = history[: -length - 1 : -1]  # the newest `length`, newest first
        found = [find(event.item, -1) for event in events]
        times = [event.time_us for event in events]
        # Nearly always all of them count. Else go through the history event by event: older ones fill the places.
        if events and (min(found) < 0 or (now and max(times) >= now)):
            events, found, unknown_B[row] = _known_events(history, now, length, find)
            times = [event.time_us for event in events]
        counts.append(len(events))
        slots += found
        actions += [action_of(event.action, 0) for event in events] if action_rows else [0] * len(events)
        ages += [now - time if time else 0 for time in times] if now else [0] * len(times)  # 0: unknown
    filled_BH = np.arange(length) < np.array(counts, dtype=np.int64).reshape(batch, 1)
    history_slots_BH = np.full((batch, length), -1, dtype=np.int32)
    history_actions_BH = np.zeros((batch, length), dtype=np.int32)
    history_ages_BH = np.zeros((batch, length), dtype=np.int32)
    # A row of the mask is True in its first `counts` places. numpy fills a mask row by row, in the order of
    # the flat lists.
    history_slots_BH[filled_BH] = slots
    history_actions_BH[filled_BH] = actions
    history_ages_BH[filled_BH] = age_buckets(np.array(ages, dtype=np.int64))
    context = {
        name: encode_column(
            f"context.{name}",
            field,
            [request.context.get(name) for request in requests],
            vocabulary,
            admit=admit,
            errors=errors,
        )
        for name, field in spec.context.items()
    }
    return Requests(
        history_slots_BH=history_slots_BH,
        history_actions_BH=history_actions_BH,
        history_ages_BH=history_ages_BH,
        context=context,
        unknown_B=unknown_B,
    )


def _known_events(history: Sequence[Event], now: int, length: int, find: Any) -> tuple[list[Event], list[int], int]:
    """The newest `length` events that count, newest first; their slots; and how many events had an unknown item."""
    events: list[Event] = []
    slots: list[int] = []
    unknown = 0
    for event in reversed(history):
        if now and event.time_us >= now:
            continue
        slot = find(event.item, -1)
        if slot < 0:
            unknown += 1
            continue
        events.append(event)
        slots.append(slot)
        if len(events) == length:
            break
    return events, slots, unknown


def encode_examples(
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    catalogue: Catalogue,
    examples: Sequence[Example],
    *,
    admit: bool = False,
    errors: list[FeatureError] | None = None,
) -> Lists:
    """Encodes examples; arguments and errors as in `encode_requests`."""
    impressions = [example.ranking.impression for example in examples]
    requests = encode_requests(spec, vocabulary, catalogue, impressions, admit=admit, errors=errors)
    batch = len(examples)
    widest = max((len(impression.candidates) for impression in impressions), default=0)
    shape = (batch, max(1, widest))
    candidate_slots_BL = np.full(shape, -1, dtype=np.int32)
    teacher_scores_BL = np.zeros(shape, dtype=np.float32)
    scored_BL = np.zeros(shape, dtype=bool)
    labels_BL = np.zeros(shape, dtype=np.float32)
    find = catalogue.slot_of.get
    # Each list fills the start of its row; the rest of the row keeps -1, 0 and False.
    for row, example in enumerate(examples):
        ranking = example.ranking
        count = len(ranking.scores)
        candidate_slots_BL[row, :count] = [find(candidate.item, -1) for candidate in ranking.impression.candidates]
        teacher_scores_BL[row, :count] = ranking.scores
        scored_BL[row, :count] = True if all(ranking.scored) else ranking.scored
        labels_BL[row, :count] = example.labels
    # A candidate that the catalogue does not know counts as absent, with its score and its label.
    where_BL = candidate_slots_BL >= 0
    scored_BL &= where_BL
    teacher_scores_BL[~scored_BL] = 0
    labels_BL[~where_BL] = 0
    label_known_B = np.array([example.label_state != "none" for example in examples], dtype=bool)
    soft_B = np.array([example.label_state != "labels" for example in examples], dtype=bool)
    weights_B = np.array([1.0 / example.ranking.sampled for example in examples], dtype=np.float32)
    offsets_BL = _offsets(examples, shape)
    return Lists(
        requests=requests,
        candidate_slots_BL=candidate_slots_BL,
        where_BL=where_BL,
        teacher_scores_BL=teacher_scores_BL,
        scored_BL=scored_BL,
        labels_BL=labels_BL,
        label_known_B=label_known_B,
        weights_B=weights_B,
        offsets_BL=offsets_BL,
        soft_B=soft_B,
        shown_BL=_shown(impressions, shape),
    )


def _shown(impressions: Sequence[Impression], shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    shown_BL = np.ones(shape, dtype=np.float32)
    for row, impression in enumerate(impressions):
        if impression.origin == "served":
            chances = [1.0 if one.propensity is None else one.propensity for one in impression.candidates]
            shown_BL[row, : len(chances)] = chances
    return shown_BL if (shown_BL < 1).any() else None


def _offsets(examples: Sequence[Example], shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    if not any(example.ranking.candidates_sampled for example in examples):
        return None
    offsets_BL = np.zeros(shape, dtype=np.float32)
    for row, example in enumerate(examples):
        chances = example.ranking.candidates_sampled
        offsets_BL[row, : len(chances)] = -np.log(np.array(chances))
    return offsets_BL

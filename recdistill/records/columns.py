"""Bytes of many rankings or examples -> columns: one list or array for each field, and no object for each record.

`read_columns` accepts and refuses the same values as `decode` does, with the same sentences, and a column holds what
the fields of the records would hold. It is several times faster, because a check looks at one field of all records at
once. A record that is not written as `encode` writes it (JSON, another frame, a repeated or unknown field, what breaks
a rule) goes through `decode`: it is refused there, or written again and read with the others. The bytes of a record
with fields that a newer version has written are kept, for whoever passes it on.

It knows nothing of logs or features.

Example:
    >>> from recdistill.records import Candidate, encode, read_columns
    >>> asked = Impression("r1", 5, candidates=(Candidate("a"), Candidate("b")))
    >>> example = Example(Ranking(asked, "bst", "3", "logit", (1.5, 0.0), (True, False)), (0.0, 1.0), "closed")
    >>> columns, refused = read_columns(Example, [encode(example), b"noise"])
    >>> list(columns.items), columns.scores_C.tolist(), columns.labels_C.tolist(), columns.states
    (['a', 'b'], [1.5, 0.0], [0.0, 1.0], ['closed'])
    >>> str(refused[1])
    'not an example: it starts with 0x6e, not with the framing byte 0x00 or the `{` of JSON'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError as ProtobufError

from recdistill.errors import DecodeError
from recdistill.limits import (
    MAX_BYTES,
    MAX_CANDIDATES,
    MAX_EXCLUDE,
    MAX_HISTORY,
    MAX_ID,
    MAX_LABEL,
    MAX_SCORE,
    MAX_TIME_US,
    MIN_CHANCE,
)
from recdistill.records import codec
from recdistill.records.checks import Invalid, check_values
from recdistill.records.flat import (
    Flags,
    Ids,
    Whole,
    have_twice,
    is_id,
    out_of_order,
    read_candidates,
    read_events,
    rows_of,
)
from recdistill.records.structs import (
    Event,
    Example,
    Impression,
    LabelState,
    Origin,
    Ranking,
    Scale,
    Value,
)

Decode = Callable[[type[Any], bytes | None], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """E lists, with C candidates and H events in all.

    The candidates of the first list come first, then those of the second one. Events are the same.

    Attributes:
        values: The framed bytes of each list. An odd value was written again, unless it holds unknown fields.
        ids: Of the impressions.
        users: None where there is none.
        times_E: Times of the impressions in microseconds, int64; 0 where unknown.
        origins: Who asked.
        served_by: Content hash of the bundle that answered, or "".
        contexts: By name of the field.
        teachers: `id@version`.
        scales: What the scores mean.
        scored_at_E: Microseconds, int64; 0 where unknown.
        stamps_E: `catalogue_as_of`, int64.
        sampled_E: Probability with which the list was put to the teacher, f64.
        agreement_E: `self_agreement`, f32; NaN where there is none.
        states: State of the labels; "none" for rankings.
        counts_E: How many candidates each list has, int64.
        items: Ids of the candidates.
        scores_C: The teacher's, f32; 0 where missing.
        scored_C: Which of them are real.
        labels_C: f32; 0 for rankings.
        chances_C: `candidates_sampled`, f32; 1 where a list has none.
        chanced_E: Which lists have `candidates_sampled`.
        propensities_C: Chance of each candidate to be at its place, f32; NaN where it is not known.
        events_E: How many events each list has, int64.
        event_items: Oldest first.
        actions: The different actions of the events; the first one is "", for none.
        action_H: Place of each event's action among them, int64.
        event_times_H: Microseconds, int64; 0 where unknown.
        excluded: Ids that each list excludes.
    """

    values: list[bytes]
    ids: list[str]
    users: list[str | None]
    times_E: Whole
    origins: list[Origin]
    served_by: list[str]
    contexts: list[Mapping[str, Value]]
    teachers: list[str]
    scales: list[Scale]
    scored_at_E: Whole
    stamps_E: Whole
    sampled_E: npt.NDArray[np.float64]
    agreement_E: npt.NDArray[np.float32]
    states: list[LabelState]
    counts_E: Whole
    items: Ids
    scores_C: npt.NDArray[np.float32]
    scored_C: Flags
    labels_C: npt.NDArray[np.float32]
    chances_C: npt.NDArray[np.float32]
    chanced_E: Flags
    propensities_C: npt.NDArray[np.float32]
    events_E: Whole
    event_items: Ids
    actions: list[str]
    action_H: Whole
    event_times_H: Whole
    excluded: list[tuple[str, ...]]

    def __len__(self) -> int:
        """How many lists."""
        return len(self.ids)

    @classmethod
    def join(cls, parts: Sequence[Columns]) -> Columns:
        """The lists of several columns, one after the other. There must be at least one part."""
        if len(parts) == 1:
            return parts[0]
        actions = list(dict.fromkeys(name for part in parts for name in part.actions))
        place_of = {name: place for place, name in enumerate(actions)}
        action_H = [np.array([place_of[name] for name in part.actions])[part.action_H] for part in parts]
        joined: dict[str, Any] = {"actions": actions, "action_H": np.concatenate(action_H)}
        for name in [field.name for field in fields(cls) if field.name not in joined]:
            columns = [getattr(part, name) for part in parts]
            match columns[0]:
                case list():
                    joined[name] = [entry for column in columns for entry in column]
                case Ids():
                    joined[name] = Ids.join(columns)
                case _:
                    joined[name] = np.concatenate(columns)
        return cls(**joined)

    def request(self, row: int) -> Impression:
        """The impression of one list, without its user, its candidates and what it excludes."""
        stop = int(self.events_E[: row + 1].sum())
        start = stop - int(self.events_E[row])
        history = [
            Event(item, time_us, self.actions[action])
            for item, time_us, action in zip(
                self.event_items.texts(start, stop),
                self.event_times_H[start:stop].tolist(),
                self.action_H[start:stop].tolist(),
                strict=True,
            )
        ]
        return Impression(
            id=self.ids[row],
            time_us=int(self.times_E[row]),
            history=tuple(history),
            context=dict(self.contexts[row]),
            origin=self.origins[row],
            served_by=self.served_by[row],
        )


class Read(NamedTuple):
    """What came of some values.

    Args:
        columns: The lists of those that are valid, in their order.
        refused: Why each of the others is not, by its place among the values.
    """

    columns: Columns
    refused: dict[int, DecodeError]


def read(kind: type[Ranking | Example], values: Sequence[bytes | None], *, decode: Decode) -> Read:
    """Reads and checks many values of one kind, see `recdistill.records.read_columns`.

    Args:
        kind: The record that the topic carries.
        values: Whole values of messages.
        decode: The slow way for one value.
    """
    columns, odd = _quickly(kind, values, MAX_BYTES)
    if not odd:
        return Read(columns, {})
    refused: dict[int, DecodeError] = {}
    valid: list[bytes | None] = []
    newer: dict[int, bytes] = {}
    for place, value in enumerate(values):
        if place not in odd:
            valid.append(value)
            continue
        try:
            written = codec.write(decode(kind, value))
        except DecodeError as error:
            refused[place] = error
            continue
        if value is not None and (whole := codec.with_unknown(kind, value)) is not None:
            newer[len(valid)] = whole
        valid.append(written)
    # What JSON says may be longer on the wire than a message can be: it counts all the same, as in `decode`.
    columns, odd = _quickly(kind, valid, None)
    if odd:
        raise AssertionError(f"a valid {kind.__name__.lower()} was written in a form that is not read")
    for place, whole in newer.items():
        columns.values[place] = whole
    return Read(columns, refused)


class _Gathered:
    """The fields of each list as protobuf gives them, list by list."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.values: list[bytes] = []
        self.history: list[bytes] = []
        self.candidates: list[bytes] = []
        self.contexts: list[Mapping[str, Value]] = []
        self.excluded: list[tuple[str, ...]] = []
        self.users: list[str | None] = []
        self.teachers: dict[tuple[str, str], str] = {}
        self.rows: list[tuple[Any, ...]] = []
        """The other fields of each list, in the order in which `_checked` takes them."""

    def add(self, place: int, value: bytes, body: bytes, kind: type[Any]) -> bool:
        """Takes one value. Returns False, and takes nothing, if it must be read in the slow way."""
        message = _PARSERS[kind](body)
        # What the canonical form does not have makes the value longer than what is left without it: a field that comes
        # twice, an unknown one, a default that is written out.
        message.DiscardUnknownFields()
        if message.ByteSize() != len(body):
            return False
        labelled = kind is Example
        ranking = message.ranking if labelled else message
        asked = ranking.impression
        candidates, history = asked.candidates, asked.history
        count, events = len(candidates), len(history)
        scores, scored, chances = ranking.scores, ranking.scored, ranking.candidates_sampled
        labels, state = (message.labels, message.label_state) if labelled else (bytes(4 * count), 0)
        if len(scores) != 4 * count or len(labels) != 4 * count or len(scored) != (count + 7) // 8:
            return False
        if (chances and len(chances) != 4 * count) or count > MAX_CANDIDATES or events > MAX_HISTORY:
            return False
        list_id, served_by = asked.id, asked.served_by
        user = asked.user if asked.HasField("user") else None
        if not is_id(list_id) or len(served_by) > MAX_ID or not (user is None or is_id(user)):
            return False
        if (teacher := self.teachers.get((ranking.teacher_id, ranking.teacher_version))) is None:
            if not (is_id(ranking.teacher_id) and is_id(ranking.teacher_version)):
                return False
            teacher = f"{ranking.teacher_id}@{ranking.teacher_version}"
            self.teachers[ranking.teacher_id, ranking.teacher_version] = teacher
        excluded: tuple[str, ...] = ()
        if asked.exclude:
            excluded = tuple(asked.exclude)
            if len(excluded) > MAX_EXCLUDE or not all(map(is_id, excluded)):
                return False
        context: Mapping[str, Value] = _NOTHING
        if asked.context:
            context = codec.read_values(asked.context, "context")
            check_values(context, "context")
        self.rows.append(
            (
                list_id,
                asked.time_us,
                asked.origin,
                served_by,
                teacher,
                ranking.scale,
                ranking.scored_at_us,
                ranking.catalogue_as_of,
                ranking.sampled if ranking.HasField("sampled") else 1.0,
                ranking.self_agreement if ranking.HasField("self_agreement") else None,
                state,
                count,
                events,
                scores,
                scored,
                labels,
                chances,
            )
        )
        self.places.append(place)
        self.values.append(value)
        self.history += history
        self.candidates += candidates
        self.contexts.append(context)
        self.excluded.append(excluded)
        self.users.append(user)
        return True


def _quickly(
    kind: type[Ranking | Example], values: Sequence[bytes | None], most: int | None
) -> tuple[Columns, set[int]]:
    """Reads values that are written as `encode` writes them.

    Args:
        kind: The record.
        values: The values.
        most: Bytes that one may have.

    Returns:
        Columns of them, and the places of the others. The columns can be used only if there are no others.
    """
    prefix = codec.prefix(kind)
    gathered = _Gathered()
    odd: set[int] = set()
    for place, value in enumerate(values):
        if value is None or not value.startswith(prefix) or (most is not None and len(value) > most):
            odd.add(place)
            continue
        try:
            taken = gathered.add(place, value, value[len(prefix) :], kind)
        except UNREADABLE:
            taken = False
        if not taken:
            odd.add(place)
    columns, odd_rows = _checked(gathered)
    odd.update(gathered.places[row] for row in odd_rows)
    return columns, odd


def _checked(gathered: _Gathered) -> tuple[Columns, list[int]]:
    """Makes columns of what was gathered, and says which rows break a rule."""
    (ids, times, origins, served_by, teachers, scales, scored_at, stamps, sampled, agreements, states, counts, events,
     scores, scored, labels, chances) = zip(*gathered.rows, strict=True) if gathered.rows else [()] * 17  # fmt: skip
    times_E, scored_at_E, stamps_E = _whole(times), _whole(scored_at), _whole(stamps)
    sampled_E, counts_E, events_E = np.array(sampled, np.float64), _whole(counts), _whole(events)
    agreement_E = np.array([np.nan if one is None else one for one in agreements], np.float64)
    asked_E = np.array([one is not None for one in agreements], bool)
    odd_E = (times_E < 0) | (times_E > MAX_TIME_US) | (scored_at_E < 0) | (scored_at_E > MAX_TIME_US) | (stamps_E < 0)
    odd_E |= ~((sampled_E >= MIN_CHANCE) & (sampled_E <= 1))
    odd_E |= asked_E & ~(np.abs(agreement_E) <= 1)
    for numbers, names in ((origins, codec.ORIGINS), (scales, codec.SCALES), (states, codec.LABEL_STATES)):
        numbers_E = _whole(numbers)
        odd_E |= (numbers_E < 0) | (numbers_E >= len(names))
    # The candidates.
    rows_C = rows_of(counts_E)
    members = read_candidates(gathered.candidates)
    scores_C, labels_C = _floats(scores), _floats(labels)
    chances_C, chanced_E = np.ones(len(rows_C), np.float32), np.array([len(one) > 0 for one in chances], bool)
    chances_C[chanced_E[rows_C]] = _floats(chances)
    scored_C, odd_masks_E = _masks(scored, counts_E)
    odd_C = members.odd_N | ~(np.abs(scores_C) <= MAX_SCORE) | ~((labels_C >= 0) & (labels_C <= MAX_LABEL))
    odd_C |= ~((chances_C >= MIN_CHANCE) & (chances_C <= 1))
    odd_E |= odd_masks_E
    odd_E[rows_C[odd_C]] = True
    odd_E[have_twice(members.items, counts_E)] = True
    for row in [row for row, excluded in enumerate(gathered.excluded) if excluded and not odd_E[row]]:
        stop = int(counts_E[: row + 1].sum())
        odd_E[row] = not set(gathered.excluded[row]).isdisjoint(members.items.texts(stop - int(counts_E[row]), stop))
    # The events.
    history = read_events(gathered.history)
    rows_H = rows_of(events_E)
    odd_E[rows_H[history.odd_N]] = True
    odd_E |= out_of_order(history.times_N, rows_H, times_E)
    odd = np.flatnonzero(odd_E).tolist()
    columns = Columns(
        values=gathered.values,
        ids=list(ids),
        users=gathered.users,
        times_E=times_E,
        origins=[] if odd else [codec.ORIGINS[one] for one in origins],
        served_by=list(served_by),
        contexts=gathered.contexts,
        teachers=list(teachers),
        scales=[] if odd else [codec.SCALES[one] for one in scales],
        scored_at_E=scored_at_E,
        stamps_E=stamps_E,
        sampled_E=sampled_E,
        agreement_E=agreement_E.astype(np.float32),
        states=[] if odd else [codec.LABEL_STATES[one] for one in states],
        counts_E=counts_E,
        items=members.items,
        scores_C=scores_C,
        scored_C=scored_C,
        labels_C=labels_C,
        chances_C=chances_C,
        chanced_E=chanced_E,
        propensities_C=members.propensities_N,
        events_E=events_E,
        event_items=history.items,
        actions=history.actions,
        action_H=history.action_N,
        event_times_H=history.times_N,
        excluded=gathered.excluded,
    )
    return columns, odd


def _whole(numbers: Sequence[int]) -> Whole:
    return np.array(numbers, np.int64)


def _floats(written: Sequence[bytes]) -> npt.NDArray[np.float32]:
    return np.frombuffer(b"".join(written), "<f4").astype(np.float32, copy=False)


def _masks(written: Sequence[bytes], counts_E: Whole) -> tuple[Flags, Flags]:
    """Bits of each list -> a flag for each candidate; and which lists have a bit behind their last candidate."""
    bits = np.unpackbits(np.frombuffer(b"".join(written), np.uint8), bitorder="little").view(np.bool_)
    room_E = 8 * ((counts_E + 7) // 8)
    rows_N = rows_of(room_E)
    inside_N = np.arange(len(bits)) - (np.cumsum(room_E) - room_E)[rows_N] < counts_E[rows_N]
    odd_E = np.zeros(len(counts_E), bool)
    odd_E[rows_N[bits & ~inside_N]] = True
    return bits[inside_N], odd_E


UNREADABLE: Final = (ProtobufError, Invalid, ValueError, RecursionError, OverflowError)
"""What protobuf, and the rules, say of a value that is none."""
_NOTHING: Final[Mapping[str, Value]] = {}
_PARSERS: Final[dict[type[Any], Callable[[bytes], Any]]] = {
    kind: codec.form(
        {"Impression": ("history", "candidates"), "Ranking": ("scores", "candidates_sampled"), "Example": ("labels",)}
    )[kind.__name__].FromString
    for kind in (Ranking, Example)
}

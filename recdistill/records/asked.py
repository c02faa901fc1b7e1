"""Bytes of many impressions -> the impressions, checked together: the scorer reads them so.

`read` accepts and refuses the same values as `decode` does, with the same sentences, and gives equal impressions. It
is faster (`python -m benchmarks.bench_log`): the same field of all candidates, or of all events, is checked in one
step, and no message of protobuf is made for each of them. A value that is not written as `encode` writes it (JSON,
another frame, a repeated or unknown field, what breaks a rule) goes through `decode`. The bytes stay with whoever has
them: `encode_around` copies them into the ranking, unknown fields too.

It knows nothing of logs, or of teachers.

Example:
    >>> from recdistill.records import Candidate, encode, read_impressions
    >>> asked = Impression("r1", 5, candidates=(Candidate("a"), Candidate("b", 0.5)))
    >>> found, refused = read_impressions([encode(asked), b"noise"])
    >>> found == asked, str(refused)[:17]
    (True, 'not an impression')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from recdistill.errors import DecodeError
from recdistill.limits import MAX_BYTES, MAX_CANDIDATES, MAX_EXCLUDE, MAX_HISTORY, MAX_ID, MAX_TIME_US
from recdistill.records import codec
from recdistill.records.checks import check_values
from recdistill.records.columns import UNREADABLE
from recdistill.records.flat import (
    Candidates,
    have_twice,
    is_id,
    out_of_order,
    read_candidates,
    read_events,
    rows_of,
)
from recdistill.records.structs import Candidate, Event, Impression, Value

Decode = Callable[[type[Any], bytes | None], Any]

_NOTHING: Final[Mapping[str, Value]] = {}

_FEW: Final = 4
"""Fewer lists are read one by one: a step over all of them has a price of its own."""


def read(values: Sequence[bytes | None], *, decode: Decode) -> list[Impression | DecodeError]:
    """Reads and checks many impressions, see `recdistill.records.read_impressions`.

    Args:
        values: Whole values of messages.
        decode: The slow way for one value.
    """
    prefix = codec.prefix(Impression)
    gathered = _Gathered()
    for place, value in enumerate(values if len(values) >= _FEW else ()):
        if value is not None and value.startswith(prefix) and len(value) <= MAX_BYTES:
            try:
                gathered.add(place, value[len(prefix) :])
            except UNREADABLE:
                continue
    quickly = gathered.impressions()
    return [quickly[place] if place in quickly else _slowly(value, decode) for place, value in enumerate(values)]


def _slowly(value: bytes | None, decode: Decode) -> Impression | DecodeError:
    try:
        found: Impression = decode(Impression, value)
    except DecodeError as error:
        return error
    return found


class _Gathered:
    """The lists whose small fields are valid, as protobuf gives them."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.messages: list[Any] = []
        self.contexts: list[Mapping[str, Value]] = []

    def add(self, place: int, body: bytes) -> None:
        """Takes one list, if its form and its small fields are those that `encode` writes.

        Raises:
            UNREADABLE: It is no impression, or breaks a rule.
        """
        message = codec.opaque(Impression).FromString(body)
        # What the canonical form does not have makes the value longer than what is left without it.
        message.DiscardUnknownFields()
        if message.ByteSize() != len(body):
            return
        if len(message.candidates) > MAX_CANDIDATES or len(message.history) > MAX_HISTORY:
            return
        named = not message.HasField("user") or is_id(message.user)
        if not (named and is_id(message.id) and len(message.served_by) <= MAX_ID):
            return
        if not (0 <= message.time_us <= MAX_TIME_US and 0 <= message.origin < len(codec.ORIGINS)):
            return
        if len(message.exclude) > MAX_EXCLUDE or not all(map(is_id, message.exclude)):
            return
        context: Mapping[str, Value] = _NOTHING
        if message.context:
            context = codec.read_values(message.context, "context")
            check_values(context, "context")
        self.places.append(place)
        self.messages.append(message)
        self.contexts.append(context)

    def impressions(self) -> dict[int, Impression]:
        """The valid ones by their place; what is odd is left out."""
        while self.messages:
            found, odd = self._made()
            if not odd:
                return dict(zip(self.places, found, strict=True))
            for row in reversed(odd):
                del self.places[row], self.messages[row], self.contexts[row]
        return {}

    def _made(self) -> tuple[list[Impression], list[int]]:
        """The impressions, if none is odd; and which ones are."""
        messages = self.messages
        members = [member for message in messages for member in message.candidates]
        counts_E = np.array([len(message.candidates) for message in messages], np.int64)
        events_E = np.array([len(message.history) for message in messages], np.int64)
        times_E = np.array([message.time_us for message in messages], np.int64)
        candidates = read_candidates(members)
        history = read_events([event for message in messages for event in message.history])
        rows_H = rows_of(events_E)
        odd_E = out_of_order(history.times_N, rows_H, times_E)
        odd_E[rows_H[history.odd_N]] = True
        odd_E[rows_of(counts_E)[candidates.odd_N]] = True
        odd_E[have_twice(candidates.items, counts_E)] = True
        starts = [0, *np.cumsum(counts_E).tolist()]
        for row, message in enumerate(messages):
            if message.exclude and not odd_E[row]:
                odd_E[row] = not set(message.exclude).isdisjoint(
                    candidates.items.texts(int(starts[row]), int(starts[row + 1]))
                )
        if odd_E.any():
            return [], np.flatnonzero(odd_E).tolist()
        shown = _candidates(candidates, members)
        actions = [history.actions[action] for action in history.action_N.tolist()]
        events = list(map(Event, history.items, history.times_N.tolist(), actions))
        ends = [0, *np.cumsum(events_E).tolist()]
        return [
            Impression(
                id=message.id,
                time_us=message.time_us,
                user=message.user if message.HasField("user") else None,
                history=tuple(events[first:last]),
                context=dict(context),
                candidates=tuple(shown[start:stop]),
                exclude=tuple(message.exclude),
                origin=codec.ORIGINS[message.origin],
                served_by=message.served_by,
            )
            for message, context, (start, stop), (first, last) in zip(
                messages, self.contexts, pairwise(starts), pairwise(ends), strict=True
            )
        ], []


def _candidates(checked: Candidates, members: Sequence[bytes]) -> list[Candidate]:
    """The candidates. One with scores of the product is read as a message of its own."""
    made = list(map(Candidate, checked.items))
    sizes_N = checked.items.sizes_N
    bare_N = sizes_N + 2 + (sizes_N > 0x7F)  # a tag, a length of one or two bytes, and the text
    whole_N = np.fromiter(map(len, members), np.int64, len(members))
    for place in np.flatnonzero(whole_N != bare_N).tolist():
        made[place] = codec.candidate_of(members[place])
    return made

"""Examples -> the timelines that the built-in teacher learns from, and batches of their windows.

The histories of one user's impressions overlap, so they are merged. A *timeline* is a sequence of events, each in it
once. A *question* is a place in a timeline, a time, a context, and the item that was chosen there. The item is one of
an impression, with a positive label. An event that no impression explains is a question too: its item is the event's,
and it has no context. So one window of a timeline answers many questions at the cost of one history.

An impression starts a new timeline if its history contradicts its user's timeline, or if it has no user. So no question
has more history than the product had.

It knows nothing of torch, weights or losses.

Example:
    >>> from recdistill.features import Catalogue, FeatureSpec, Vocabulary
    >>> from recdistill.records import Candidate, Event, Impression, Item, Ranking
    >>> spec = FeatureSpec()
    >>> catalogue = Catalogue(spec, Vocabulary(spec))
    >>> slots = [catalogue.apply(Item(name), admit=True) for name in "abc"]
    >>> asked = Impression("i", 9, user="u", history=(Event("a", 1), Event("b", 2)), candidates=(Candidate("c"),))
    >>> lines = timelines(spec, catalogue, [Example(Ranking(asked, "", "", "rank", (0.0,), (False,)), (1.0,))])
    >>> lines.slots_E.tolist(), lines.question_at_M.tolist(), lines.question_slot_M.tolist()
    ([0, 1], [0, 1, 2], [0, 1, 2])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.features import Asker, Catalogue, FeatureSpec, encode_column
from recdistill.records import Example

Ints = npt.NDArray[np.int64]

LABELLED = 0
"""Origin of a question from an impression. The origin 1 + a is an event with action row a."""

_LOOK_BACK = 64  # events

_Event = tuple[int, int, int]  # slot, time in microseconds (0: unknown), row of the action


@dataclass(frozen=True)
class Timelines:
    """T timelines with E events in total, and M questions, sorted by timeline and place.

    Args:
        first_T1: Where each timeline's events begin, and where the last one ends.
        slots_E: Catalogue slot of each event.
        times_us_E: Its time, 0 where unknown.
        actions_E: Row of its action, 0 for an unknown one.
        first_question_T1: Where each timeline's questions begin, and where the last one's end.
        question_at_M: How many events of the timeline come before the question.
        question_slot_M: What was chosen.
        question_time_us_M: When it was asked, 0 where unknown.
        question_origin_M: `LABELLED`, or 1 + the action's row.
        question_context_M: Row of `context`.
        question_weight_M: Weight in the loss, above 0 to 1.
        context: One array [rows, width] for each context field. Row 0 has no values.
        lists: Number of impressions with a positive label.
    """

    first_T1: Ints
    slots_E: Ints
    times_us_E: Ints
    actions_E: Ints
    first_question_T1: Ints
    question_at_M: Ints
    question_slot_M: Ints
    question_time_us_M: Ints
    question_origin_M: Ints
    question_context_M: Ints
    question_weight_M: npt.NDArray[np.float32]
    context: dict[str, npt.NDArray[Any]]
    lists: int


@dataclass(frozen=True)
class Windows:
    """B runs of up to L events, left-aligned, and Q questions about each.

    Args:
        slots_BL: Catalogue slots, oldest first, -1 beyond the end.
        times_us_BL: Times of the events, 0 where unknown.
        actions_BL: Rows of the actions.
        at_BQ: How many events of the window come before the question; -1 where there is no question.
        asked_us_BQ: When it was asked, 0 where unknown.
        origin_BQ: See `Timelines`.
        context: One array [B * Q, width] for each context field.
    """

    slots_BL: Ints
    times_us_BL: Ints
    actions_BL: Ints
    at_BQ: Ints
    asked_us_BQ: Ints
    origin_BQ: Ints
    context: dict[str, npt.NDArray[Any]]


@dataclass
class _Line:
    """A timeline while it is built."""

    events: list[_Event]
    questions: list[tuple[int, int, int, int, int, float]] = field(default_factory=list)
    chosen: set[int] = field(default_factory=set)

    def place(self, history: list[_Event]) -> int | None:
        """Where a history ends in this timeline. It may extend the timeline. None if the two contradict each other."""
        events = self.events
        if not history or not events:
            events += history
            return len(history)
        # If the timeline's newest event is in the history, the events after it are new.
        for shared in range(len(history), 0, -1):
            if history[shared - 1] == events[-1]:
                if history[:shared] != events[-shared:]:
                    return None
                events += history[shared:]
                return len(events)
        # Or the history ends before the newest event, for example if an event became known late.
        for end in range(len(events) - 1, max(0, len(events) - _LOOK_BACK), -1):
            if events[end - 1] == history[-1]:
                return end if events[max(0, end - len(history)) : end] == history else None
        return None


def known_events(spec: FeatureSpec, catalogue: Catalogue, request: Asker) -> list[_Event]:
    """The events that count, oldest first: of known items, before the request, at most `history.length`."""
    rows = {action: row for row, action in enumerate(spec.history.actions, 1)}
    find, row_of, now = catalogue.slot_of.get, rows.get, request.time_us
    events = [(find(e.item, -1), e.time_us, row_of(e.action, 0)) for e in request.history]
    # Nearly always all of them count. The slot is the first part of an event, so `min` finds the smallest slot.
    if events and (min(events)[0] < 0 or 0 < now <= max([time_us for _, time_us, _ in events])):
        events = [e for e in events if e[0] >= 0 and not 0 < now <= e[1]]
    return events[-spec.history.length :]


def timelines(spec: FeatureSpec, catalogue: Catalogue, examples: Sequence[Example]) -> Timelines:
    """Merges the histories of examples into timelines.

    Args:
        spec: What counts.
        catalogue: Slots of the items. Unknown items are left out.
        examples: In any order. Only positive labels are used.
    """
    requests = [example.ranking.impression for example in examples]
    lines: list[_Line] = []
    of_user: dict[str, _Line] = {}
    lists = 0
    for number in sorted(range(len(requests)), key=lambda n: requests[n].time_us):
        request = requests[number]
        history = known_events(spec, catalogue, request)
        line = of_user.get(request.user) if request.user is not None else None
        at = None if line is None else line.place(history)
        if line is None or at is None:
            line, at = _Line(list(history)), len(history)
            lines.append(line)
            if request.user is not None:
                of_user[request.user] = line
        labels = examples[number].labels
        top = max(labels, default=0.0)
        lists += top > 0
        for candidate, label in zip(request.candidates, labels, strict=True):
            slot = catalogue.slot(candidate.item) if label > 0 else -1
            if slot >= 0:
                line.questions.append((at, slot, request.time_us, LABELLED, number + 1, label / top))
                line.chosen.add(slot)
    context = {
        name: encode_column(
            f"context.{name}",
            one,
            [None, *(request.context.get(name) for request in requests)],
            catalogue.vocabulary,
            admit=True,
            errors=[],
        )
        for name, one in spec.context.items()
    }
    return _flat(lines, context, lists)


def _flat(lines: list[_Line], context: dict[str, npt.NDArray[Any]], lists: int) -> Timelines:
    for line in lines:
        line.questions += [
            (at, slot, time_us, 1 + action, 0, 1.0)
            for at, (slot, time_us, action) in enumerate(line.events)
            if slot not in line.chosen
        ]
        line.questions.sort(key=lambda question: question[0])
    events = np.array([event for line in lines for event in line.events], np.int64).reshape(-1, 3)
    questions = np.array([question[:5] for line in lines for question in line.questions], np.int64).reshape(-1, 5)
    weights = np.array([question[5] for line in lines for question in line.questions], np.float32)
    return Timelines(
        first_T1=np.cumsum([0, *(len(line.events) for line in lines)]),
        slots_E=events[:, 0],
        times_us_E=events[:, 1],
        actions_E=events[:, 2],
        first_question_T1=np.cumsum([0, *(len(line.questions) for line in lines)]),
        question_at_M=questions[:, 0],
        question_slot_M=questions[:, 1],
        question_time_us_M=questions[:, 2],
        question_origin_M=questions[:, 3],
        question_context_M=questions[:, 4],
        question_weight_M=weights,
        context=context,
        lists=lists,
    )


def cut(lines: Timelines, length: int, random: np.random.Generator, *, overlapping: bool = True) -> Ints:
    """One pass over all timelines as windows of up to `length` events.

    Windows start half a length apart, with a random shift. So each question comes about twice, once with a short
    history and once with a long one. Without overlap they start a length apart, and each question comes once.

    Returns:
        [n, 4]: first and last event (exclusive) and first and last question (exclusive) of each window.
    """
    stride = max(1, length // 2) if overlapping else length
    rows: list[tuple[int, int, int, int]] = []
    shifts = random.integers(stride, size=len(lines.first_T1) - 1).tolist()
    for line, shift in enumerate(shifts):
        begin, stop = lines.first_T1[line : line + 2].tolist()
        lo, hi = lines.first_question_T1[line : line + 2].tolist()
        at = lines.question_at_M[lo:hi]
        count = stop - begin
        end = count + (shift if count > length else 0)
        while True:
            first, last = max(0, end - length), min(count, end)
            # If a window does not begin at the start of its timeline, a question at its first event would
            # have no history.
            one = int(np.searchsorted(at, first, side="left" if first == 0 else "right"))
            two = int(np.searchsorted(at, last, side="right"))
            if two > one:
                rows.append((begin + first, begin + last, lo + one, lo + two))
            if first == 0:
                break
            end -= stride
    return np.array(rows, np.int64).reshape(-1, 4)


def batches(cuts: Ints, size: int, random: np.random.Generator) -> Iterator[Ints]:
    """Shuffles windows into batches. Windows of a batch have about equal lengths; batches come in random order."""
    order = random.permutation(len(cuts))
    groups = []
    for start in range(0, len(order), 16 * size):
        some = order[start : start + 16 * size]
        some = some[np.argsort(cuts[some, 1] - cuts[some, 0], kind="stable")]
        groups += [some[at : at + size] for at in range(0, len(some), size)]
    for number in random.permutation(len(groups)):
        yield cuts[groups[number]]


def windows(lines: Timelines, cuts: Ints, most: int, random: np.random.Generator) -> tuple[Windows, Ints]:
    """The arrays of a batch of windows.

    Args:
        lines: The timelines.
        cuts: Rows of `cut`, B of them.
        most: Most questions of one window. If there are more, some are drawn.
        random: For that draw.

    Returns:
        The windows, and the number of each question, [B, Q], -1 where there is none.
    """
    begin, end, lo, hi = cuts.T
    length = max(1, int((end - begin).max()))
    event_BL = begin[:, None] + np.arange(length)
    real_BL = event_BL < end[:, None]
    event_BL = np.where(real_BL, event_BL, 0)
    width = int(min(most, (hi - lo).max()))
    question_BQ = lo[:, None] + np.arange(width)
    question_BQ[question_BQ >= hi[:, None]] = -1
    for row in np.flatnonzero(hi - lo > most).tolist():
        question_BQ[row] = np.sort(random.choice(np.arange(lo[row], hi[row]), most, replace=False))
    asked_BQ = question_BQ >= 0
    # Places count from the start of the timeline. Subtract the place of the window's first event.
    line_B = np.searchsorted(lines.first_question_T1, lo, side="right") - 1
    offset_B = begin - lines.first_T1[line_B]
    at_BQ = np.where(asked_BQ, lines.question_at_M[question_BQ] - offset_B[:, None], -1)
    rows_BQ = np.where(asked_BQ, lines.question_context_M[question_BQ], 0).ravel()

    def events(values_E: Ints, absent: int) -> Ints:
        if not len(values_E):  # nobody has a history
            return np.full(event_BL.shape, absent)
        return np.where(real_BL, values_E[event_BL], absent)

    made = Windows(
        slots_BL=events(lines.slots_E, -1),
        times_us_BL=events(lines.times_us_E, 0),
        actions_BL=events(lines.actions_E, 0),
        at_BQ=at_BQ,
        asked_us_BQ=np.where(asked_BQ, lines.question_time_us_M[question_BQ], 0),
        origin_BQ=np.where(asked_BQ, lines.question_origin_M[question_BQ], 0),
        context={name: column[rows_BQ] for name, column in lines.context.items()},
    )
    return made, question_BQ


def single(events: Sequence[list[_Event]], asked_us: Sequence[int], context: dict[str, npt.NDArray[Any]]) -> Windows:
    """Windows of whole histories, each with one question at its end, for scoring."""
    count = len(events)
    length = max(1, max((len(one) for one in events), default=0))
    packed_B3L = np.zeros((count, 3, length), np.int64)
    packed_B3L[:, 0] = -1
    for row, one in enumerate(events):
        if one:
            packed_B3L[row, :, : len(one)] = np.array(one, np.int64).T
    return Windows(
        slots_BL=packed_B3L[:, 0],
        times_us_BL=packed_B3L[:, 1],
        actions_BL=packed_B3L[:, 2],
        at_BQ=np.array([[len(one)] for one in events], np.int64).reshape(count, 1),
        asked_us_BQ=np.array(asked_us, np.int64).reshape(count, 1),
        origin_BQ=np.full((count, 1), LABELLED, np.int64),
        context=context,
    )

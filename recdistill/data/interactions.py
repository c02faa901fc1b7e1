"""A log of interactions (who chose which item, when) -> impressions and feedback.

The log is read in the order of time; events of equal time keep the order of the log. An event whose user has enough
earlier events becomes one impression. The user's last items are the history, and the older ones are excluded. The item
of the event has a random place among candidates that a product could have offered at that moment
(`recdistill.data.retrieval`). The feedback says that the item was chosen.

**Ties.** Clocks of logs are coarse. In ml-100k half of all events have the same second as the event before. A rule
"strictly before" would lose half of a history. So times are moved by a few microseconds, just enough that the order of
time is the order of the log (`untie`).

It knows row numbers and arrays. Names of items, and the context of a request, come from the caller.

Example:
    >>> untie(np.array([5, 5, 5, 6, 9])).tolist()
    [5, 6, 7, 8, 9]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recdistill.data import LazyImpressions
from recdistill.data.retrieval import Mix, Retriever
from recdistill.errors import DataError
from recdistill.records import Candidate, Event, Feedback, Impression, Value

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Interactions:
    """Events in the order of the log, as columns of one length E.

    Attributes:
        user_E: Row of the user.
        item_E: Row of the item.
        time_us_E: Microseconds since the epoch, strictly increasing (`untie`).
        actions: What was done: one action for each event, or one for all.
        value_E: How much (a rating, seconds, a price). It becomes the value of the feedback.
    """

    user_E: NDArray[np.int64]
    item_E: NDArray[np.int64]
    time_us_E: NDArray[np.int64]
    actions: Sequence[str] | str
    value_E: NDArray[np.float64]

    def action(self, event: int) -> str:
        """What was done in one event."""
        return self.actions if isinstance(self.actions, str) else self.actions[event]


class Made(NamedTuple):
    """What a log of interactions became.

    Attributes:
        impressions: The lists.
        feedback: One for each list, a microsecond later, with the value of the log.
        repeats: Events that made no list, because the user had had the item before.
        early: Events that made no list, because the user had too few events before.
    """

    impressions: LazyImpressions
    feedback: list[Feedback]
    repeats: int
    early: int


def untie(time_us_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest times that strictly increase and are not earlier: t'_e = max(t_e, t'_(e-1) + 1).

    Args:
        time_us_E: Times that do not decrease.

    Raises:
        DataError: They decrease somewhere.
    """
    if np.any(np.diff(time_us_E) < 0):
        raise DataError(
            "interactions: times decrease; sort them by time first (a stable sort keeps the log's order of ties)"
        )
    # t'_e − e never decreases, and is the running maximum of t_e − e.
    step_E = np.arange(len(time_us_E))
    return np.maximum.accumulate(time_us_E - step_E) + step_E


def clock(time_us: int) -> dict[str, Value]:
    """Hour of the day and day of the week in UTC, as categories.

    >>> clock(0)
    {'hour': '00', 'weekday': 'thu'}
    """
    days, rest = divmod(time_us, _DAY_US)
    return {"hour": f"{rest // 3_600_000_000:02d}", "weekday": DAYS[(days + 3) % 7]}


def cut_in_time(time_us_E: NDArray[np.int64], shares: tuple[float, float] = (0.8, 0.9)) -> tuple[int, int]:
    """Times of the events at which the validation and the test part begin."""
    one, two = (min(len(time_us_E) - 1, int(len(time_us_E) * share)) for share in shares)
    return int(time_us_E[one]), int(time_us_E[two])


def impressions_of(
    log: Interactions,
    *,
    prefix: str,
    users: Sequence[str],
    items: Sequence[str],
    context: Callable[[int, int], dict[str, Value]],
    mix: Mix | None = None,
    history: int = 50,
    min_history: int = 3,
    listed_E: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Made:
    """Turns a log into impressions and feedback.

    An event on an item that its user has had before is part of later histories. But it becomes no impression, because
    such items are not offered.

    Args:
        log: The events.
        prefix: Start of the impressions' ids. The place in the log follows, so an id depends on the log alone.
        users: Names of the users, by row.
        items: Names of the items, by row.
        context: (user row, time in microseconds) -> context of a request.
        mix: How candidates are found.
        history: Most events in a history; the user's older items are in `exclude`.
        min_history: Fewest earlier events that a user must have.
        listed_E: Which events may become lists; the others are only history. None: all.
        seed: Of the candidates.
    """
    time_us_E = log.time_us_E
    count = len(time_us_E)
    # Sort events by user, each user's in the order of the log. Then the items before a user's k-th event are one slice.
    grouped_E = np.argsort(log.user_E, kind="stable")
    starts_U = np.searchsorted(log.user_E[grouped_E], np.arange(len(users) + 1))
    items_by_user_E = log.item_E[grouped_E]
    place_E = np.empty(count, np.int64)  # number of an event among the events of its user
    place_E[grouped_E] = np.arange(count) - starts_U[log.user_E[grouped_E]]

    retriever = Retriever(len(items), mix, seed=seed)
    kept: list[int] = []
    lists: list[NDArray[np.int32]] = []
    repeats = early = 0
    for event, (user, item, place) in enumerate(
        zip(log.user_E.tolist(), log.item_E.tolist(), place_E.tolist(), strict=True)
    ):
        start = int(starts_U[user])
        had = items_by_user_E[start : start + place]
        if listed_E is None or listed_E[event]:
            if place < min_history:
                early += 1
            elif (had == item).any():
                repeats += 1
            else:
                kept.append(event)
                lists.append(retriever.candidates(had, target=item).astype(np.int32))
        retriever.observe(item, had)

    events = [
        Event(item=items[item], time_us=time_us, action=log.action(event))
        for event, (item, time_us) in enumerate(zip(log.item_E.tolist(), time_us_E.tolist(), strict=True))
    ]
    by_user = [events[event] for event in grouped_E.tolist()]
    offers = [Candidate(item=item) for item in items]

    def build(number: int) -> Impression:
        event = kept[number]
        user, time_us = int(log.user_E[event]), int(time_us_E[event])
        start = int(starts_U[user])
        end = start + int(place_E[event])
        recent = max(start, end - history)
        shown = {one.item for one in by_user[recent:end]}
        older = dict.fromkeys(one.item for one in by_user[start:recent] if one.item not in shown)
        return Impression(
            id=f"{prefix}{event}",
            time_us=time_us,
            user=users[user],
            history=tuple(by_user[recent:end]),
            context=context(user, time_us),
            candidates=tuple(offers[item] for item in lists[number].tolist()),
            exclude=tuple(older),
        )

    feedback = [
        Feedback(
            id=f"{prefix}{event}/0",
            impression_id=f"{prefix}{event}",
            item=items[int(log.item_E[event])],
            action=log.action(event),
            value=float(log.value_E[event]),
            time_us=int(time_us_E[event]) + 1,
        )
        for event in kept
    ]
    lists_made = LazyImpressions(len(kept), build, time_us=lambda number: int(time_us_E[kept[number]]))
    return Made(lists_made, feedback, repeats, early)

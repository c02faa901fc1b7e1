"""Invented streams for the detectors of drift: visits of users, lists with a context, labels that come later.

A calm stream is not independent from list to list: one user makes several requests in a row, with the same newest event
and the same taste. So a detector that takes lists as independent draws alarms here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recdistill.features import Lists, Requests
from recdistill.watch.arrived import Arrived

LENGTH, EVENTS, ITEMS = 12, 5, 2_000
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Calm:
    """How a stream is. Another one, from a list on, is a planted shift.

    Attributes:
        fame: The first item of the order of fame: another one turns the tastes.
        rate: Share of lists with a label.
        length: Candidates of a list.
        delay_s: From a list to its labels.
        depth: How fast attention falls with the place, as a share for each place.
        error: Of the student, beside a spread of 1.
        hour: The hour around which requests come.
        unknown: Share of events that the catalogue does not know.
        action: Chance of the second action.
        told: Share of visits of people who have told their age.
        east: Where people are on average: the first number of a vector of two, whose second number is always 0.
    """

    fame: int = 0
    rate: float = 0.3
    length: int = LENGTH
    delay_s: float = 60.0
    depth: float = 0.8
    error: float = 0.7
    hour: int = 12
    unknown: float = 0.02
    action: float = 0.2
    told: float = 1.0
    east: float = 0.0


def stream(seed: int, lists: int, *, shift: Calm | None = None, at: int = 0, calm: Calm | None = None) -> Arrived:
    """Lists of one stream, as one batch. Every second one is met twice: with its scores, and then with its labels.

    Args:
        seed: Of all chance.
        lists: How many.
        shift: How the stream is from list `at` on; None: it stays as it is.
        at: Where the shift begins.
        calm: How the stream is before.
    """
    before = calm or Calm()
    if shift is None:
        return _part(seed, 0, lists, before)
    one, two = _part(seed, 0, at, before), _part(seed + 1_000, at, lists - at, shift)
    return joined(one, two)


def joined(one: Arrived, two: Arrived) -> Arrived:
    """Two parts, one after the other."""

    def both(a: object, b: object) -> object:
        if isinstance(a, dict) and isinstance(b, dict):
            return {name: both(value, b[name]) for name, value in a.items()}
        return np.concatenate([a, b]) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a

    requests = {name: both(value, getattr(two.requests, name)) for name, value in vars(one.requests).items()}
    lists = {name: both(value, getattr(two.lists, name)) for name, value in vars(one.lists).items()}
    assert one.times_B is not None
    assert two.times_B is not None
    return Arrived(
        first=one.first,
        lists=Lists(**{**lists, "requests": Requests(**requests)}),  # type: ignore[arg-type]
        student_BL=np.concatenate([one.student_BL, two.student_BL]),
        times_B=np.concatenate([one.times_B, two.times_B]),
        numbers=one.numbers,
    )


def cut(whole: Arrived, size: int) -> list[Arrived]:
    """The same stream in batches."""
    found = []
    for start in range(0, len(whole.at), size):
        rows = slice(start, start + size)
        requests = {
            name: {key: column[rows] for key, column in value.items()} if isinstance(value, dict) else value[rows]
            for name, value in vars(whole.requests).items()
        }
        lists = {
            name: value[rows] if isinstance(value, np.ndarray) else value for name, value in vars(whole.lists).items()
        }
        assert whole.times_B is not None
        found.append(
            Arrived(
                first=whole.first + start,
                lists=replace(Lists(**lists), requests=Requests(**requests)),
                student_BL=whole.student_BL[rows],
                times_B=whole.times_B[rows],
                numbers=whole.numbers,
            )
        )
    return found


def _part(seed: int, first: int, count: int, like: Calm) -> Arrived:
    random = np.random.default_rng(seed)
    chances = 1.0 / np.arange(1, ITEMS + 1)
    totals = np.cumsum(chances / chances.sum())

    def items(shape: tuple[int, ...]) -> np.ndarray:
        ranks = np.minimum(np.searchsorted(totals, random.random(shape)), ITEMS - 1)
        return ((ranks * 7919 + like.fame) % ITEMS).astype(np.int32)  # the famous ones lie in no order of slots

    # Visits of one to five lists: all lists of a visit have the same history, but for its order behind the newest.
    visit_B = np.repeat(np.arange(count), random.integers(1, 6, count))[:count]
    history_BH = items((count, EVENTS))[visit_B]
    actions_BH = (1 + (random.random((count, EVENTS)) < like.action)).astype(np.int32)[visit_B]
    hours_B1 = ((like.hour + random.integers(-3, 4, count))[visit_B] % 24)[:, None].astype(np.int32)
    taste_BL = random.normal(size=(count, LENGTH))
    where_BL = np.broadcast_to(np.arange(LENGTH) < like.length, (count, LENGTH)).copy()
    slots_BL = np.where(where_BL, items((count, LENGTH)), -1).astype(np.int32)
    # What is taken: the place by attention.
    attention_L = np.where(np.arange(LENGTH) < like.length, like.depth ** np.arange(LENGTH), 0.0)
    places_B = np.searchsorted(np.cumsum(attention_L / attention_L.sum()), random.random(count))
    taken_B = random.random(count) < like.rate
    labels_BL = ((np.arange(LENGTH) == places_B[:, None]) & taken_B[:, None]).astype(np.float32)
    again_B = np.arange(count) % 2 == 1  # a label that comes later: the list before it, once more
    times_B = (first + np.arange(count)) * SECOND_US + 10**15
    times_B = np.where(again_B, times_B - int(like.delay_s * SECOND_US), times_B)
    age_B = random.normal(size=count)[visit_B]
    unknown_B = random.binomial(EVENTS, like.unknown, count).astype(np.int32)
    student_BL = taste_BL + like.error * random.normal(size=(count, LENGTH))
    told_B = (random.random(count) < like.told)[visit_B]
    east_B = like.east + random.normal(size=count)[visit_B]
    context = {
        "hour": hours_B1,
        "age": np.stack([np.where(told_B, age_B, 0), told_B], 1),
        "place": np.stack([east_B, np.zeros(count)], 1),
    }
    requests = Requests(
        history_slots_BH=history_BH,
        history_actions_BH=actions_BH,
        history_ages_BH=np.zeros_like(actions_BH),
        context=context,
        unknown_B=unknown_B,
    )
    ones_B = np.ones(count, np.float32)
    return Arrived(
        first=first,
        lists=Lists(
            requests=requests,
            candidate_slots_BL=slots_BL,
            where_BL=where_BL,
            teacher_scores_BL=taste_BL.astype(np.float32),
            scored_BL=where_BL,
            labels_BL=np.where(again_B[:, None], labels_BL, 0).astype(np.float32),
            label_known_B=again_B,
            weights_B=ones_B,
            offsets_BL=None,
            soft_B=~again_B,
        ),
        student_BL=student_BL,
        times_B=times_B,
        numbers=frozenset({"age"}),
    )

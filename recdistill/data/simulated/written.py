"""The records of a simulated run: items, impressions and feedback, from what happened in it.

It knows nothing of why it happened.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from recdistill.data import LazyImpressions
from recdistill.data.interactions import DAYS
from recdistill.data.simulated.settings import SimulatorSettings
from recdistill.data.simulated.world import (
    DAY_US,
    DEVICES,
    MINUTE_US,
    PARTS_OF_DAY,
    TOPICS,
    Catalogue,
    Floats,
    Ints,
)
from recdistill.records import Candidate, Event, Feedback, Impression, Item


def items_of(catalogue: Catalogue, item_ids: list[str], end_us: int) -> list[Item]:
    """All records of items in the order of time; a withdrawal is one of its own."""
    launches, withdrawals = [], []
    for row, name in enumerate(item_ids):
        launch_us, withdrawn_us = int(catalogue.launch_us_N[row]), int(catalogue.withdrawn_us_N[row])
        item = Item(
            id=name,
            attributes={
                "topic": TOPICS[int(catalogue.topic_N[row])],
                "price": float(catalogue.price_N[row]),
                "title": catalogue.titles[row],
            },
            time_us=launch_us,
        )
        launches.append(item)
        if withdrawn_us < end_us:
            withdrawals.append(msgspec.structs.replace(item, version=1, withdrawn=True, time_us=withdrawn_us))
    return sorted(launches + withdrawals, key=lambda item: item.time_us)


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What happened at each request.

    Attributes:
        ids: Their ids.
        time_us_I: Their times.
        device_I: From which device each came.
        shown: The list of each: rows of items, their scores, and whether its order is random.
        seen: User, and length of its history, at each.
    """

    ids: list[str]
    time_us_I: Ints
    device_I: Ints
    shown: list[tuple[Ints, Floats, bool]]
    seen: list[tuple[int, int]]


def impressions_of(
    requests: Requests, item_ids: list[str], history: list[list[Event]], longest: int
) -> LazyImpressions:
    """The impressions, each made when it is asked for.

    Args:
        requests: What happened.
        item_ids: Ids of the rows.
        history: The events of each user.
        longest: Most events of a history that an impression holds; it says the items of the others to be left out.
    """
    ids, time_us_I, device_I = requests.ids, requests.time_us_I, requests.device_I
    shown, seen = requests.shown, requests.seen

    def build(number: int) -> Impression:
        time_us = int(time_us_I[number])
        rows, scores, shuffled = shown[number]
        user, end = seen[number]
        recent = max(0, end - longest)
        days = time_us // DAY_US
        chance = 1.0 / len(rows) if shuffled and len(rows) else None  # all items were had: the list is empty
        return Impression(
            id=ids[number],
            time_us=time_us,
            user=f"user-{user:05d}",
            history=tuple(history[user][recent:end]),
            context={
                "part_of_day": PARTS_OF_DAY[time_us % DAY_US * 4 // DAY_US],
                "weekday": DAYS[(days + 3) % 7],
                "device": DEVICES[int(device_I[number])],
            },
            candidates=tuple(
                Candidate(item=item_ids[row], logged_score=score, propensity=chance)
                for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            ),
            exclude=tuple(event.item for event in history[user][:recent]),
        )

    return LazyImpressions(len(ids), build, time_us=lambda number: int(time_us_I[number]))


def feedback_of(
    clicks: list[tuple[int, int, int]],
    ids: list[str],
    item_ids: list[str],
    settings: SimulatorSettings,
    random: np.random.Generator,
) -> list[Feedback]:
    """Feedback in the order of arrival: up to two seconds after the click, some minutes later, some twice."""
    arriving: list[tuple[int, int, Feedback]] = []
    for number, item, at in clicks:
        one = Feedback(
            id=f"{ids[number]}/{item}",
            impression_id=ids[number],
            item=item_ids[item],
            action="click",
            time_us=at,
        )
        late = 0
        if random.random() < settings.late:
            late = min(int(random.exponential(5 * MINUTE_US)), 25 * MINUTE_US)
        arrival = at + int(random.integers(2_000_000)) + late
        arriving.append((arrival, len(arriving), one))
        if random.random() < settings.duplicates:
            again = arrival + int(random.integers(5 * MINUTE_US))
            arriving.append((again, len(arriving), one))
    arriving.sort(key=lambda entry: entry[:2])
    return [one for _, _, one in arriving]

"""A small world of records for tests of loops: items, impressions with lists, and feedback.

Some feedback comes late, twice or out of order.
"""

import random
from collections.abc import Sequence

from recdistill.records import Candidate, Event, Feedback, Impression, Item

SECOND = 1_000_000


def items(count: int = 20) -> list[Item]:
    return [
        Item(id=f"item-{n}", version=1, attributes={"genre": "abc"[n % 3], "title": f"the {n} of {n % 5}"}, time_us=n)
        for n in range(count)
    ]


def impressions(count: int, *, seed: int = 0, item_count: int = 20, length: int = 6) -> list[Impression]:
    chance = random.Random(seed)
    made = []
    for n in range(count):
        time_us = (n + 1) * SECOND
        seen = chance.sample(range(item_count), chance.randrange(0, 6))
        left = [i for i in range(item_count) if i not in seen]
        made.append(
            Impression(
                id=f"imp-{n}",
                time_us=time_us,
                user=f"user-{n % 7}",
                history=tuple(
                    Event(item=f"item-{i}", time_us=max(1, time_us - (k + 1) * 1000), action="click")
                    for k, i in reversed(list(enumerate(seen)))
                ),
                context={"hour": str(n % 24)},
                candidates=tuple(Candidate(item=f"item-{i}") for i in chance.sample(left, length)),
            )
        )
    return made


def feedback(lists: Sequence[Impression], *, seed: int = 0, share: float = 0.6, late: float = 0.1) -> list[Feedback]:
    """Clicks on some lists, not always in the order of time. Some come twice, some too late, some on other items."""
    chance = random.Random(seed)
    clicks = []
    for impression in lists:
        if chance.random() > share:
            continue
        item = chance.choice(impression.candidates).item if chance.random() < 0.95 else "item-not-shown"
        delay_s = chance.uniform(0, 4) if chance.random() > late else chance.uniform(6, 20)
        click = Feedback(
            id=f"f-{impression.id}",
            impression_id=impression.id,
            item=item,
            action="click" if chance.random() < 0.9 else "hover",
            time_us=impression.time_us + int(delay_s * SECOND),
        )
        clicks += [click, click] if chance.random() < 0.1 else [click]
    return sorted(clicks, key=lambda click: click.time_us + int(chance.uniform(0, 1.5) * SECOND))


def by_hash(lists: Sequence[Impression]) -> list[list[float]]:
    """A teacher function. Its score depends only on the item and the newest event."""
    return [
        [
            ((int(c.item.split("-")[1]) * 37 + (len(i.history) * 11)) % 19) / 5.0
            for c in i.candidates
        ]
        for i in lists
    ]  # fmt: skip


def all_alike(lists: Sequence[Impression]) -> list[list[float]]:
    """A teacher function that knows nothing."""
    return [[1.0 for _ in i.candidates] for i in lists]

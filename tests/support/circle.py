"""Users who go around a circle of items: what a teacher of sequences can learn, and nothing else can.

It knows nothing of teachers.

Example:
    >>> [event.item for event in circle(1)[0].ranking.impression.history]
    ['i0', 'i1', 'i2', 'i3', 'i4']
"""

from __future__ import annotations

from recdistill.features import FeatureSpec, HistorySpec, IdSpec
from recdistill.records import Candidate, Event, Example, Impression, Ranking

ITEMS = [f"i{n}" for n in range(12)]
SPEC = FeatureSpec(history=HistorySpec(length=6), id=IdSpec(capacity=12, hashed=1))


def asked(name: str, items: list[int], chosen: int | None = None) -> Impression:
    return Impression(
        name,
        0,
        user=name,
        history=tuple(Event(ITEMS[n], 0) for n in items),
        candidates=tuple(Candidate(ITEMS[n]) for n in ([] if chosen is None else [chosen])),
    )


def circle(users: int, length: int = 5) -> list[Example]:
    """Each user goes on from item to item, around a circle: the next one is sure, its popularity says nothing."""
    found = []
    for user in range(users):
        line = [(user + step) % len(ITEMS) for step in range(length + 1)]
        one = asked(f"u{user}", line[:-1], line[-1])
        found.append(Example(Ranking(one, "", "", "rank", (0.0,), (False,)), (1.0,)))
    return found

"""Hostile records: bytes that nobody should send, and records that are allowed but extreme. The same for each seed.

Example:
    >>> kinds = Hostile(seed=1, items=["a", "b"])
    >>> [len(value or b"") >= 0 for value in kinds.values("feedback", 3)]
    [True, True, True]
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from recdistill.limits import MAX_LABEL, MAX_SCORE, MAX_TIME_US, MAX_VALUE
from recdistill.records import Candidate, Event, Example, Feedback, Impression, Item, Ranking, Record, codec

Make = Callable[[], bytes | None]


class Hostile:
    """Makes values for a topic.

    Args:
        seed: Of everything.
        items: Ids of items that there are.
    """

    def __init__(self, seed: int, items: Sequence[str]) -> None:
        self._chance, self._items = random.Random(seed), list(items)
        self._number = 0

    def values(self, topic: str, count: int) -> list[bytes | None]:
        """Values for one topic: garbage, damaged records, wrong kinds, and extremes."""
        made: dict[str, Callable[[], Record]] = {
            "items": self.item,
            "impressions": self.impression,
            "feedback": self.feedback,
            "rankings": self.ranking,
            "examples": self.example,
        }
        make = made[topic]
        ways: list[Make] = [
            lambda: None,
            lambda: b"",
            lambda: self._chance.randbytes(self._chance.choice([1, 5, 40, 3_000])),
            lambda: codec.frame([0]) + self._chance.randbytes(60),
            lambda: self._cut(codec.write(make())),
            lambda: self._flipped(codec.write(make())),
            lambda: codec.write(make()) + self._chance.randbytes(9),
            lambda: codec.write(self._wild(make())),
            lambda: codec.write(make()),
            lambda: self._json(make()),
            lambda: b"{" * self._chance.choice([1, 200, 50_000]),
            lambda: codec.write(self.other(topic)),
            lambda: b"\x00" + b"x" * self._chance.choice([200_000, 990_000]),
        ]
        weights = [1, 1, 3, 3, 4, 6, 2, 8, 8, 6, 1, 2, 0.2]
        return [way() for way in self._chance.choices(ways, weights, k=count)]

    # Records that are allowed, and odd

    def impression(self) -> Impression:
        """An impression with a list of 0 to 12."""
        self._number += 1
        time_us = self._chance.choice([0, 1, 5_000_000, 1_700_000_000_000_000, MAX_TIME_US])
        listed = self._chance.sample(self._items, min(len(self._items), self._chance.choice([0, 1, 2, 12])))
        score: Callable[[], float | None] = lambda: self._chance.choice([None, 0.5, MAX_SCORE, -MAX_SCORE, 1e-30])  # noqa: E731
        return Impression(
            f"odd-{self._number}",
            time_us,
            self._chance.choice([None, "u", "ü" * 512]),
            tuple(Event(self._chance.choice([*self._items, "nobody"]), 0, "click") for _ in range(3)),
            {"hour": self._chance.choice(["3", 7.0, True, ["a", "b"], [1.0, 2.0], 1e300, ""])},
            tuple(Candidate(item, score(), self._chance.choice([None, 1e-6, 1.0])) for item in listed),
        )

    def feedback(self) -> Feedback:
        """A feedback on one of the last odd impressions, or on none."""
        self._number += 1
        return Feedback(
            f"f-{self._number}",
            f"odd-{max(1, self._number - self._chance.randrange(40))}",
            self._chance.choice([*self._items, "nobody"]),
            self._chance.choice(["click", "buy", "stare"]),
            self._chance.choice([1.0, 0.0, -5.0, MAX_VALUE, -MAX_VALUE, 1e-30]),
            self._chance.choice([0, 1, 6_000_000, 1_700_000_000_000_500]),
        )

    def ranking(self) -> Ranking:
        """A ranking of such an impression."""
        asked = self.impression()
        count = len(asked.candidates)
        return Ranking(
            asked,
            "odd",
            "1",
            self._chance.choice(["unbounded", "logit", "probability", "rank"]),
            scores=tuple(self._chance.choice([0.0, 1.0, MAX_SCORE, -MAX_SCORE, 1e-38]) for _ in range(count)),
            scored=tuple(self._chance.random() < 0.8 for _ in range(count)),
            catalogue_as_of=self._chance.choice([0, 1, 5]),
            sampled=self._chance.choice([1.0, 2.0**-30, 0.5]),
            candidates_sampled=tuple(2.0**-30 for _ in range(count)) if self._chance.random() < 0.2 else (),
        )

    def example(self) -> Example:
        """An example of such a ranking; one in eight has a stamp of records that were never written."""
        ranking = self.ranking()
        if self._chance.random() < 0.125:
            ranking = msgspec.structs.replace(ranking, catalogue_as_of=self._chance.choice([10**6, (1 << 63) - 1]))
        labels = tuple(self._chance.choice([0.0, 1.0, MAX_LABEL, 1e-30]) for _ in ranking.scores)
        return Example(ranking, labels, self._chance.choice(["none", "closed"]))

    def item(self) -> Item:
        """An item with attributes of any kind."""
        self._number += 1
        value = self._chance.choice(["x", 1e308, -0.0, True, ["a"], [1e38], "", "ü" * 3_000])
        return Item(
            self._chance.choice([*self._items, f"odd-item-{self._number}"]),
            self._chance.choice([0, 1, 2, (1 << 63) - 1]),
            self._chance.random() < 0.1,
            {"genre": value, "title": value},
            self._chance.choice([0, MAX_TIME_US]),
        )

    def other(self, topic: str) -> Record:
        """A record of another topic."""
        return self.feedback() if topic != "feedback" else self.item()

    # What is done to them

    def _cut(self, value: bytes) -> bytes:
        return value[: self._chance.randrange(len(value))]

    def _flipped(self, value: bytes) -> bytes:
        changed = bytearray(value)
        for _ in range(self._chance.choice([1, 1, 3, 20])):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def _wild(self, record: Record) -> Record:
        """A number that no rule allows. It is written without the rules."""
        wild = self._chance.choice([float("nan"), float("inf"), 3e38, -3e38, 1e-40])
        change: dict[str, Any]
        match record:
            case Feedback():
                change = self._chance.choice([{"value": wild}, {"time_us": -(1 << 62)}, {"item": ""}])
            case Impression():
                twice = (Candidate("a"), Candidate("a"))
                change = self._chance.choice(
                    [
                        {"candidates": (Candidate("a", wild, wild),)},
                        {"candidates": twice},
                        {"time_us": (1 << 63) - 1},
                        {"history": (Event("a", 9), Event("b", 3))},
                        {"context": {"x": wild}},
                    ]
                )
            case Ranking():
                change = self._chance.choice([{"sampled": 1e-40}, {"scores": (wild,)}, {"teacher_id": ""}])
            case Example():
                change = self._chance.choice([{"labels": (wild,)}, {"labels": (-1.0,) * len(record.labels)}])
            case _:
                change = self._chance.choice([{"attributes": {"x": wild}}, {"version": -1}, {"id": ""}])
        return msgspec.structs.replace(record, **change)

    def _json(self, record: Record) -> bytes:
        """The JSON form with one field of another kind."""
        tree = json.loads(msgspec.json.encode(record))
        if self._chance.random() < 0.8:
            field = self._chance.choice([*tree, "unknown"])
            tree[field] = self._chance.choice([None, [], {}, "text", -1, 1e300, [[1]], True])
        return json.dumps(tree).encode()

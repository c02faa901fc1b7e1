"""What the producer writes: lists, clicks and items, out of order, twice and late, and transactions that are aborted.

Part n of the stream is a function of the seed and n alone. So a producer that lost its last parts in a power cut writes
them again.

It knows nothing of processes.

Example:
    >>> one, again = part(3, seed=1), part(3, seed=1)
    >>> one == again, one != part(3, seed=2)
    (True, True)
    >>> sum(isinstance(record, Impression) for record in one) >= LISTS
    True
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Final

from msgspec import Struct

from recdistill.config import LogSettings
from recdistill.records import Candidate, Event, Feedback, Impression, Item, decode, encode, key_of
from recdistill.stream import ITEMS, Log, Stage, partition_for

LISTS: Final = 8
"""Lists of a part, those that come twice not counted."""

WINDOW_S: Final = 5.0
SECOND: Final = 1_000_000
_START_US: Final = 1_767_600_000 * SECOND
_STEP_US: Final = SECOND // 4
_PART_US: Final = LISTS * _STEP_US
_ITEMS: Final = 60
_TOPICS: Final[dict[type, str]] = {Impression: "impressions", Feedback: "feedback", Item: "items"}
_MARK: Final = "item-0"
"""Its title is the number of the last part that was written."""


class Bad(Struct, frozen=True):
    """A record that nobody can read. It goes to the dead letters, once."""

    topic: str
    key: bytes


Record = Impression | Feedback | Item | Bad


def part(n: int, *, seed: int) -> list[Record]:
    """The records of a part, in the order in which they are written."""
    chance = random.Random(f"{seed}/{n}")
    records: list[Record] = _lists(n, seed=seed)
    # Some come twice: at once, or with the next part.
    records += [one for one in records if chance.random() < 0.05]
    records += [one for one in _lists(n - 1, seed=seed) if n > 0 and chance.random() < 0.05]
    for back in range(12):
        records += [click for at, click in _clicks(n - back, seed=seed) if at == n]
    if n % 5 == 2:
        records += [Bad(topic=topic, key=f"bad-{n}".encode()) for topic in ("impressions", "feedback")]
    chance.shuffle(records)
    return [*_items(n, chance), *records]


def _lists(n: int, *, seed: int) -> list[Record]:
    if n < 0:
        return []
    chance = random.Random(f"{seed}/lists/{n}")
    made: list[Record] = []
    for k in range(LISTS):
        time_us = _START_US + n * _PART_US + k * _STEP_US - int(chance.expovariate(2.0) * SECOND)
        if chance.random() < 0.03:  # much too late
            time_us -= int(chance.uniform(6, 60) * SECOND)
        seen = chance.sample(range(_ITEMS), chance.randrange(6))
        shown = chance.sample([i for i in range(_ITEMS) if i not in seen], 6)
        made.append(
            Impression(
                id=f"r-{n}-{k}",
                time_us=time_us,
                user=f"user-{chance.randrange(40)}",
                history=tuple(
                    Event(item=f"item-{i}", time_us=time_us - (age + 1) * 1000, action="click")
                    for age, i in reversed(list(enumerate(seen)))
                ),
                context={"hour": str(n % 24)},
                candidates=tuple(Candidate(item=f"item-{i}") for i in shown),
            )
        )
    return made


def _clicks(n: int, *, seed: int) -> list[tuple[int, Feedback]]:
    """The clicks on the lists of a part, and the part with which each is written."""
    chance = random.Random(f"{seed}/clicks/{n}")
    clicks: list[tuple[int, Feedback]] = []
    for one in _lists(n, seed=seed):
        if not isinstance(one, Impression) or chance.random() > 0.6:
            continue
        item = chance.choice(one.candidates).item if chance.random() < 0.95 else "item-not-shown"
        delay_s = chance.uniform(0, 4) if chance.random() > 0.1 else chance.uniform(6, 15)
        click = Feedback(
            id=f"f-{one.id}",
            impression_id=one.id,
            item=item,
            action="click" if chance.random() < 0.9 else "hover",
            time_us=one.time_us + int(delay_s * SECOND),
        )
        # Sometimes before its list is scored, sometimes after its window is closed, and not in the order of time.
        at = n + int(delay_s * SECOND / _PART_US * chance.uniform(0.0, 1.5))
        clicks += [(at, click)] * (2 if chance.random() < 0.1 else 1)
    return clicks


def _items(n: int, chance: random.Random) -> list[Record]:
    """Records of the catalogue: all of it first, then one or two with each part, now and then a withdrawn item."""
    numbers = range(1, _ITEMS) if n == 0 else [chance.randrange(1, _ITEMS + n // 4) for _ in range(2)]
    made: list[Record] = [
        Item(
            id=f"item-{i}",
            version=n + 1,
            attributes={"genre": "abc"[(i + n) % 3], "title": f"the {i} of {n % 5}"},
            time_us=n + 1,
            withdrawn=n > 0 and chance.random() < 0.05,
        )
        for i in numbers
    ]
    mark = Item(id=_MARK, version=n + 1, attributes={"genre": "a", "title": f"part {n}"}, time_us=n + 1)
    return [*made, mark]


def write(log: Log, records: Sequence[Record]) -> None:
    """Writes records in one transaction."""
    with closing(log.stage("producer")) as stage:
        write_with(stage, records)


def write_with(stage: Stage, records: Sequence[Record]) -> None:
    """Writes records with a stage that is open."""
    with stage.transaction() as transaction:
        for record in records:
            if isinstance(record, Bad):
                transaction.send(record.topic, b"\x00no record", key=record.key)
            else:
                transaction.send(_TOPICS[type(record)], encode(record), key=key_of(record))


def abort(stage: Stage, count: int) -> None:
    """A transaction that leaves nothing but a gap in the offsets."""
    with suppress(_Never), stage.transaction() as transaction:
        for n in range(count):
            for topic in ("impressions", "feedback", "items"):
                transaction.send(topic, b"\x00never seen", key=str(n).encode())
        raise _Never


def abort_on_brokers(settings: LogSettings) -> None:
    """An aborted transaction whose records lie in the topics. A stage of Kafka sends nothing before its commit."""
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    producer = KafkaProducer(
        bootstrap_servers=settings.brokers.split(","), transactional_id=f"{settings.prefix}aborts", acks=-1
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for topic in ("impressions", "feedback", "items", "rankings"):
            producer.send(settings.prefix + topic, b"\x00never seen", key=b"never", partition=0)
        producer.flush()
        producer.abort_transaction()
    except KafkaError:  # the broker is away: then there is one gap less
        pass
    finally:
        producer.close(timeout=5)


class _Never(Exception):
    """Aborts a transaction."""


def last_part(log: Log) -> int:
    """The number of the last part that the log holds; -1 where there is none."""
    found = -1
    with closing(log.source([ITEMS])) as source:
        while source.position()[ITEMS] < source.bounds(ITEMS)[1]:
            for message in source.read(1000, 0.2):
                item = decode(Item, message.value)
                if item.id == _MARK:
                    found = int(str(item.attributes["title"]).removeprefix("part "))
    return found


def last_records(n: int, partitions: int) -> list[Record]:
    """One list and one click in each partition, late enough to close every window before them."""
    late_us = _START_US + n * _PART_US + int((WINDOW_S + 100) * SECOND)
    ids: dict[int, str] = {}
    for number in range(1000):
        ids.setdefault(partition_for(f"end-{number}".encode(), partitions), f"end-{number}")
    [model] = [one for one in _lists(0, seed=0)[:1] if isinstance(one, Impression)]
    made: list[Record] = []
    for id_ in ids.values():
        made.append(Impression(id=id_, time_us=late_us, candidates=model.candidates))
        made.append(Feedback(id=f"f-{id_}", impression_id=id_, item="item-1", action="none", time_us=late_us + 1))
    return made


def by_hash(lists: Sequence[Impression]) -> list[list[float]]:
    """The teacher of the storm. A score depends on the item and on how long the history is."""
    return [[((int(c.item.split("-")[1]) * 37 + len(i.history) * 11) % 19) / 5.0 for c in i.candidates] for i in lists]

"""A joiner that is killed after any commit writes the same bytes, whatever comes; and labels follow a rule."""

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from support.memory_log import MemoryLog

from recdistill.loops import join
from recdistill.records import (
    Candidate,
    Example,
    Feedback,
    Impression,
    Ranking,
    decode,
    encode,
    key_of,
)
from recdistill.stream import Log, standard_topics
from recdistill.stream.partitioner import partition_for

S = 1_000_000
BEGAN_US = 1_767_225_600 * S


class Killed(Exception):
    """The death of a joiner between two steps."""


def stream(seed: int) -> list[Ranking | Feedback | bytes]:
    """A small stream in which ids come twice, records come in any order, and some are garbage."""
    chance, at_us, made = random.Random(seed), BEGAN_US, []
    ids = [f"x{n}" for n in range(chance.choice([4, 12, 40]))]
    late = chance.choice([0.0, 0.1, 0.5])
    for n in range(chance.randrange(10, 50)):
        at_us += round(chance.expovariate(1.0) * S)
        time_us = at_us - (round(chance.choice([1, 4, 12, 30]) * S * chance.random()) if chance.random() < late else 0)
        name = chance.choice(ids)
        kind = chance.random()
        if kind < 0.45:
            asked = Impression(
                name,
                time_us,
                user=f"u{chance.randrange(6)}" if chance.random() < 0.8 else None,
                candidates=tuple(Candidate(item) for item in "abc"[: chance.randrange(1, 4)]),
                origin=chance.choice(["product", "student", "served"]),
            )
            count = len(asked.candidates)
            made.append(Ranking(asked, "t", str(n), "logit", (0.5,) * count, (True,) * count))
        elif kind < 0.97:
            time_us = 0 if chance.random() < 0.03 else time_us
            value = chance.choice([1.0, 2.0, 0.0])
            action = "click" if chance.random() < 0.9 else "look"
            made.append(Feedback(f"f{n}", name, chance.choice("abcd"), action, value, time_us=time_us))
        else:
            made.append(b"garbage %d" % n)
    return made


def filled(records: Sequence[Ranking | Feedback | bytes], partitions: int, seed: int) -> MemoryLog:
    log, chance = MemoryLog(standard_topics(partitions, 2)), random.Random(seed)
    with log.stage("product").transaction() as transaction:
        for record in records:
            if isinstance(record, bytes):
                topic = chance.choice(["rankings", "feedback"])
                partition = chance.randrange(partitions)
                transaction.send(topic, record, key=b"?", partition=partition, time_us=BEGAN_US)
                continue
            topic = "rankings" if isinstance(record, Ranking) else "feedback"
            key = key_of(record)
            partition = partition_for(key, partitions)
            transaction.send(topic, encode(record), key=key, partition=partition, time_us=BEGAN_US)
    return log


def written(log: MemoryLog) -> tuple[Any, ...]:
    return log.content("examples"), log.content("held-out"), sorted(log.content("dead-letters")[0], key=repr)


def joined(log: MemoryLog, settings: dict[str, Any], *, flush: bool = False, die_after: int | None = None) -> int:
    """Runs a joiner. Returns how many steps it did."""
    steps = 0

    def step(done: int, total: int | None) -> None:
        nonlocal steps
        steps += 1
        if steps == die_after:
            raise Killed

    join.run(cast(Log, log), **settings, stop=threading.Event(), drain=True, flush=flush, progress=step)
    return steps


def settings_of(seed: int) -> dict[str, Any]:
    chance = random.Random(seed + 10_000)
    return {
        "window_s": chance.choice([2.0, 5.0, 20.0]),
        "batch": chance.choice([1, 2, 4, 11]),
        "wait_s": 0.0,
        "idle_s": 60.0,
        "max_ahead_s": chance.choice([10.0, 600.0]),
        "soft": chance.choice(["at_once", "at_once", "with_labels"]),
        "held_out": chance.choice([(0.0, 0.0, 1.0), (0.3, 0.3, 1.0)]),
    }


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)  # thousands of dead letters
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_a_killed_joiner_writes_what_a_calm_one_writes_byte_for_byte(tmp_path: Path) -> None:
    differ = []
    for seed in range(100):
        records, settings = stream(seed), settings_of(seed)
        partitions = 1 + seed % 2
        calm, killed = (filled(records, partitions, seed) for _ in range(2))
        steps = joined(calm, settings) + joined(calm, settings, flush=True)
        if seed % 10 == 0:
            settings |= {"directory": tmp_path / str(seed), "snapshot_s": 1e-9}
        for flush in (False, True):
            for _ in range(2 * steps + 5):
                try:
                    joined(killed, settings, flush=flush, die_after=1)
                except Killed:
                    continue
            joined(killed, settings, flush=flush)
        if written(killed) != written(calm):
            differ.append(seed)
    assert differ == []


def test_the_order_of_examples_is_not_that_of_the_commits() -> None:
    for seed in range(500, 530):
        records, partitions = stream(seed), 1 + seed % 2
        settings = settings_of(seed) | {"idle_s": 1e9}
        many, few = (filled(records, partitions, seed) for _ in range(2))
        joined(many, settings | {"batch": 1000}, flush=True)
        joined(few, settings | {"batch": 1}, flush=True)
        assert written(few) == written(many), seed


@pytest.mark.slow
def test_labels_are_those_of_the_rule_over_all_pairs() -> None:
    for seed in range(300, 400):
        records = [record for record in stream(seed) if not isinstance(record, bytes)]
        settings = settings_of(seed) | {"max_ahead_s": 1e9, "soft": "at_once", "held_out": (0.0, 0.0, 1.0)}
        log = filled(records, 1, seed)
        joined(log, settings, flush=True)
        window_us = round(settings["window_s"] * S)
        # Both partitions, each record with its time and the greatest one up to it.
        timed: dict[type, list[tuple[int, int, Any]]] = {Ranking: [], Feedback: []}
        for record in records:
            rows = timed[type(record)]
            time_us = record.impression.time_us if isinstance(record, Ranking) else record.time_us
            came_us = max(time_us, rows[-1][1] if rows else 0)
            rows.append((time_us or came_us, came_us, record))
        expected = []
        for time_us, came_us, ranking in timed[Ranking]:
            labels = [0.0] * len(ranking.impression.candidates)
            for given_us, given_came_us, given in timed[Feedback]:
                allowed_us = window_us if given.time_us else 2 * window_us  # without a time it came somewhere behind
                meets = given_came_us <= time_us + window_us and came_us <= given_us + allowed_us
                if given.impression_id == ranking.impression.id and given.action == "click" and meets:
                    for place, candidate in enumerate(ranking.impression.candidates):
                        if candidate.item == given.item:
                            labels[place] = max(labels[place], given.value)
            # The silence of a list that a person saw from the endpoint is a label too.
            if any(labels) or ranking.impression.origin == "served":
                expected.append((ranking.teacher_version, tuple(labels)))
        lanes = log.content("examples")
        made = [decode(Example, value) for lane in lanes for _, value, _ in lane]
        found = [(one.ranking.teacher_version, one.labels) for one in made if one.label_state == "labels"]
        assert sorted(found) == sorted(expected), seed
        at_once = [one.ranking.teacher_version for one in made if one.label_state == "none"]
        assert sorted(at_once) == sorted(row[2].teacher_version for row in timed[Ranking])

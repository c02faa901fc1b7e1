"""The joiner: each ranking one example, with the labels that a look at all records at once would give."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import world

from recdistill.config import LogSettings
from recdistill.errors import ConfigError
from recdistill.loops import join, score
from recdistill.loops.feed import feed
from recdistill.records import DEAD_LETTERS, Example, Feedback, Impression, decode
from recdistill.stream import Log, Message, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher

WINDOW_S = 5.0


@pytest.fixture(params=[(1, 1), (3, 2)], ids=["one partition", "three partitions, two lanes"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(*request.param))
    yield log
    log.close()


SETTINGS: dict[str, Any] = {"window_s": WINDOW_S, "batch": 7, "wait_s": 0.02, "idle_s": 0.1}


def score_all(log: Log) -> None:
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    score.run(log, teacher, batch=16, wait_s=0.05, stop=threading.Event(), drain=True)


def read_all(log: Log, topic: str) -> list[Message]:
    source = log.source([topic])
    messages: list[Message] = []
    while some := source.read(1000, 0.0):
        messages += some
    source.close()
    return messages


def examples(log: Log) -> list[Example]:
    """In the one order: lanes in turn."""
    lanes: dict[int, list[Example]] = {}
    for message in read_all(log, "examples"):
        lanes.setdefault(message.tp.partition, []).append(decode(Example, message.value))
    total = sum(map(len, lanes.values()))
    return [lanes[n % len(lanes)][n // len(lanes)] for n in range(total)]


def expected_labels(lists: list[Impression], clicks: list[Feedback]) -> dict[str, tuple[float, ...]]:
    """The naive join: every feedback held against its impression."""
    labels = {}
    for one in lists:
        good = {
            click.item
            for click in clicks
            if click.impression_id == one.id
            and click.action == "click"
            and click.time_us <= one.time_us + WINDOW_S * 1e6
        }
        labels[one.id] = tuple(float(candidate.item in good) for candidate in one.candidates)
    return labels


def test_labels_are_those_of_the_naive_join(log: Log) -> None:
    lists = world.impressions(120)
    clicks = world.feedback(lists)
    feed(log, [*lists, *clicks])
    score_all(log)
    counts = join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    made = examples(log)
    assert [example.ranking.impression.id for example in made] == [one.id for one in lists]  # first in, first out
    assert {e.ranking.impression.id: e.labels for e in made} == expected_labels(lists, clicks)
    assert {e.label_state for e in made} == {"closed"}
    assert counts["examples"] == 120
    assert min(counts["late"], counts["outside_the_list"], counts["unlabelled_action"]) > 0
    assert counts["labelled"] == sum(any(labels) for labels in expected_labels(lists, clicks).values())


def test_a_joiner_that_is_stopped_anywhere_writes_what_an_undisturbed_one_writes(log: Log) -> None:
    lists = world.impressions(150, seed=3)
    clicks = world.feedback(lists, seed=3)
    feed(log, [*lists, *clicks])
    score_all(log)
    chance = random.Random(7)

    class Killed(Exception):
        pass

    for _ in range(12):
        left = chance.randrange(1, 6)

        def die(done: int, total: int | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        try:
            join.run(log, **SETTINGS, stop=threading.Event(), drain=True, progress=die)
        except Killed:
            continue
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    made = examples(log)
    assert [example.ranking.impression.id for example in made] == [one.id for one in lists]
    assert {e.ranking.impression.id: e.labels for e in made} == expected_labels(lists, clicks)


def test_windows_stay_open_until_their_time_has_passed(log: Log) -> None:
    lists = world.impressions(30)
    feed(log, lists[:20])
    score_all(log)
    stop = threading.Event()
    first = join.run(log, **SETTINGS, stop=stop, drain=True)
    # The clock stands at the newest ranking; a window of 5 s keeps the last five open, and the one at its very edge.
    assert first["examples"] == 14
    last = lists[19]
    click = Feedback(
        id="f", impression_id=last.id, item=last.candidates[0].item, action="click", time_us=last.time_us + 1
    )
    feed(log, [click, *lists[20:]])
    score_all(log)
    join.run(log, **SETTINGS, stop=stop, drain=True)
    made = {example.ranking.impression.id: example for example in examples(log)}
    assert len(made) == 24
    assert made[last.id].labels[0] == 1.0


def test_records_that_do_not_decode_get_one_dead_letter_each_also_when_read_again(log: Log) -> None:
    lists = world.impressions(40)
    feed(log, lists)
    score_all(log)
    with log.stage("hostile").transaction() as transaction:
        transaction.send("feedback", b"{not json", key=b"x", partition=0)
        transaction.send("rankings", b"\x00\x00", key=b"y", partition=0)
    for _ in range(3):
        join.run(log, **SETTINGS, stop=threading.Event(), drain=True)
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    dead = read_all(log, DEAD_LETTERS)
    assert sorted(m.value or b"" for m in dead) == [b"\x00\x00", b"{not json"]
    assert len(examples(log)) == 40


def test_settings_and_topics_that_do_not_fit(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics({"rankings": 2, "feedback": 3, "examples": 1})
    with pytest.raises(ConfigError, match="rankings has 2 partitions and feedback 3"):
        join.run(log, **SETTINGS, stop=threading.Event(), drain=True)
    with pytest.raises(ConfigError, match=r"join\.labels\.click: is -1\.0"):
        join.run(log, labels={"click": -1.0}, stop=threading.Event(), drain=True)
    log.close()

"""The joiner: each ranking one example, with the labels that a look at all records at once would give."""

import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.deaths import killed_again_and_again

from recdistill._wire import records_pb2 as wire
from recdistill.config import LogSettings
from recdistill.errors import ConfigError, StreamError
from recdistill.loops import join, score
from recdistill.loops.feed import feed
from recdistill.loops.held import Share
from recdistill.progress import Progress
from recdistill.records import (
    DEAD_LETTERS,
    Candidate,
    Example,
    Feedback,
    Impression,
    Ranking,
    codec,
    decode,
    encode,
    key_of,
    read_columns,
)
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from recdistill.stream.embedded import EmbeddedLog
from recdistill.stream.testing import Abort, everything
from recdistill.teachers.function import FunctionTeacher

WINDOW_S = 5.0
SECOND = 1_000_000


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


def examples(log: Log) -> list[Example]:
    """In the one order: lanes in turn."""
    lanes: dict[int, list[Example]] = {}
    for message in everything(log, "examples"):
        lanes.setdefault(message.tp.partition, []).append(decode(Example, message.value))
    total = sum(map(len, lanes.values()))
    return [lanes[n % len(lanes)][n // len(lanes)] for n in range(total)]


def soft(made: list[Example]) -> list[str]:
    """Lists whose scores are an example, in their order."""
    return [example.ranking.impression.id for example in made if example.label_state != "labels"]


def labelled(made: list[Example]) -> dict[str, tuple[float, ...]]:
    """The labels of each list; zeros where there is no example of them."""
    labels = {example.ranking.impression.id: (0.0,) * len(example.labels) for example in made}
    found = [example for example in made if example.label_state != "none"]
    assert len({example.ranking.impression.id for example in found}) == len(found)
    return labels | {example.ranking.impression.id: example.labels for example in found}


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
    made, expected = examples(log), expected_labels(lists, clicks)
    assert soft(made) == [one.id for one in lists]
    assert labelled(made) == expected
    states = Counter(example.label_state for example in made)
    assert states == {"none": 120, "labels": sum(any(labels) for labels in expected.values())}
    assert counts["examples"] == len(made)
    assert counts["closed"] == 120
    assert min(counts["late"], counts["outside_the_list"], counts["unlabelled_action"]) > 0
    assert counts["labelled"] == states["labels"]
    assert counts["silent"] == 120 - states["labels"]


TOMORROW = b"\xfa\x88\x27\x0dfrom tomorrow"
"""Field 79,999 of a newer version: its tag, (79999 << 3 | 2) as a varint, its length and its text."""


@pytest.mark.parametrize("schema_id", [0, 7])
def test_fields_of_a_newer_version_survive_scorer_and_joiner(log: Log, schema_id: int) -> None:
    """In the list itself, in a candidate and in an event; also where another writer frames it by its own schema."""
    one, other = world.impressions(40)[38:]
    message = wire.Impression.FromString(encode(one)[7:])
    for part in (message, message.candidates[1], message.history[0]):
        part.MergeFromString(TOMORROW)
    newer = codec.frame([list(wire.DESCRIPTOR.message_types_by_name).index("Impression")], schema_id)
    assert decode(Impression, newer + message.SerializeToString()) == one, "an older reader takes what it knows"
    with log.stage("newer").transaction() as transaction:
        transaction.send("impressions", newer + message.SerializeToString(), key=key_of(one))
    clicks = [Feedback(x.id, x.id, x.candidates[0].item, "click", time_us=x.time_us + 1) for x in (one, other)]
    feed(log, [other, *clicks])
    score_all(log)
    [ranking] = [message.value or b"" for message in everything(log, "rankings") if message.key == key_of(one)]
    assert ranking.count(TOMORROW) == 3
    plain = encode(decode(Ranking, ranking))
    assert plain.count(TOMORROW) == 0
    counts = join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    assert (counts["rankings"], counts["labelled"], counts.get("dead_letters", 0)) == (2, 2, 0)
    made = [message.value or b"" for message in everything(log, "examples") if message.key == key_of(one)]
    assert [value.count(TOMORROW) for value in made] == [3, 3], "with its scores, and with its labels"
    columns, refused = read_columns(Example, made)
    assert (columns.ids, refused) == ([one.id, one.id], {}), "a student that does not know the field learns from it"


def test_a_newer_scorer_s_own_field_survives_the_joiner(log: Log) -> None:
    [one] = world.impressions(1)
    ranking = Ranking(one, "t", "1", "logit", (0.5,) * len(one.candidates), (True,) * len(one.candidates))
    with log.stage("newer").transaction() as transaction:
        transaction.send("rankings", encode(ranking) + TOMORROW, key=key_of(one))
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    [example] = everything(log, "examples")
    inner = wire.Example.FromString((example.value or b"")[7:]).ranking.SerializeToString()
    assert inner.endswith(TOMORROW)
    assert decode(Example, example.value).ranking == ranking


def test_scores_with_their_labels_are_one_example_for_each_list(log: Log) -> None:
    lists = world.impressions(120)
    clicks = world.feedback(lists)
    feed(log, [*lists, *clicks])
    score_all(log)
    counts = join.run(log, **SETTINGS, soft="with_labels", stop=threading.Event(), drain=True, flush=True)
    made = examples(log)
    assert [example.ranking.impression.id for example in made] == [one.id for one in lists]
    assert {e.ranking.impression.id: e.labels for e in made} == expected_labels(lists, clicks)
    assert {e.label_state for e in made} == {"closed"}
    assert counts["examples"] == 120


def test_a_joiner_that_is_stopped_anywhere_writes_what_an_undisturbed_one_writes(log: Log) -> None:
    lists = world.impressions(150, seed=3)
    clicks = world.feedback(lists, seed=3)
    feed(log, [*lists, *clicks])
    score_all(log)
    chance = random.Random(7)
    killed_again_and_again(
        lambda die: join.run(log, **SETTINGS, stop=threading.Event(), drain=True, progress=die),
        times=12,
        after=lambda: chance.randrange(1, 6),
    )
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    made = examples(log)
    assert soft(made) == [one.id for one in lists]
    assert labelled(made) == expected_labels(lists, clicks)


def test_windows_stay_open_until_their_time_has_passed(log: Log) -> None:
    lists = world.impressions(30)
    feed(log, lists[:20])
    score_all(log)
    stop = threading.Event()
    first = join.run(log, **SETTINGS, stop=stop, drain=True)
    # The clock stands at the newest ranking; a window of 5 s keeps the last five open, and the one at its very edge.
    assert (first["examples"], first["closed"], first["open"]) == (20, 14, 6)
    last = lists[19]
    click = Feedback(
        id="f", impression_id=last.id, item=last.candidates[0].item, action="click", time_us=last.time_us + 1
    )
    feed(log, [click, *lists[20:]])
    score_all(log)
    join.run(log, **SETTINGS, stop=stop, drain=True)
    made = examples(log)
    assert soft(made) == [one.id for one in lists]
    assert labelled(made)[last.id][0] == 1.0


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
    dead = everything(log, DEAD_LETTERS)
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


# Wrong times, kills, and many partitions


def stream(seed: int) -> tuple[list[Ranking | Feedback], float]:
    """Rankings and feedback with pauses, wrong times, late and early ones, and none; and a window for them."""
    chance = random.Random(seed)
    step, window_s = chance.choice([1, 3, 300]), chance.choice([5.0, 40.0, 1800.0])
    at, timed = 1_104_537_600.0, []
    for n in range(chance.randrange(20, 100)):
        at += chance.expovariate(1 / step) + chance.choice([0] * 30 + [4000, 90_000])
        time_s = at + chance.choice([0] * 30 + [700, 30_000, 3e8, 2.9e9, -3, -100, -5000])
        candidates = (Candidate("a"), Candidate("b"))
        impression = Impression(f"r{n}", int(time_s * 1e6), candidates=candidates)
        timed.append((at, Ranking(impression, "t", "1", "logit", scores=(1.0, 0.5), scored=(True, True))))
        for k in range(chance.choice([0, 1, 1, 2])):
            acted_s = time_s + chance.choice([1, 2, 4, 20, 100, 2000, -3])
            came_s = at + abs(acted_s - time_s) * chance.choice([0, 1])
            acted_s += chance.choice([0] * 25 + [700, 30_000, 3e8])
            about = f"r{n}" if chance.random() < 0.95 else f"x{n}"
            acted_us = int(acted_s * 1e6) if chance.random() < 0.97 else 0
            timed.append((came_s, Feedback(f"f{n}.{k}", about, chance.choice("ab"), "click", time_us=acted_us)))
    return [record for _, record in sorted(timed, key=lambda pair: pair[0])], window_s


def filled(path: Path, records: list[Ranking | Feedback], partitions: int) -> Log:
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(partitions, 2))
    with log.stage("product").transaction() as transaction:
        for record in records:
            topic = "rankings" if isinstance(record, Ranking) else "feedback"
            transaction.send(topic, encode(record), key=key_of(record), time_us=1_767_225_600_000_000)
    return log


def outcome(log: Log) -> tuple[list[tuple[int, bytes | None]], list[tuple[str, ...]]]:
    """The examples as they stand in their lanes, and where each dead letter came from."""
    made = [(message.tp.partition, message.value) for message in everything(log, "examples")]
    letters = [dict(message.headers) for message in everything(log, DEAD_LETTERS)]
    names = ("topic", "partition", "offset", "error")
    return sorted(made, key=lambda pair: pair[0]), sorted(tuple(h[n].decode() for n in names) for h in letters)


@pytest.mark.many
@pytest.mark.parametrize("seed", range(24))
def test_a_joiner_that_is_killed_anywhere_refuses_and_labels_the_same_records(seed: int, tmp_path: Path) -> None:
    records, window_s = stream(seed)
    chance = random.Random(seed)
    partitions, batch = chance.choice([1, 1, 3]), chance.choice([2, 7, 30])
    settings: dict[str, Any] = {"window_s": window_s, "batch": batch, "wait_s": 0.01, "idle_s": 60.0}

    calm, killed = (filled(tmp_path / f"{name}.sqlite", records, partitions) for name in ("calm", "killed"))
    counts = join.run(calm, **settings, stop=threading.Event(), drain=True)
    counts += join.run(calm, **settings, stop=threading.Event(), drain=True, flush=True)
    killed_again_and_again(
        lambda die: join.run(killed, **settings, stop=threading.Event(), drain=True, progress=die),
        times=10,
        after=lambda: chance.randrange(1, 6),
    )
    join.run(killed, **settings, stop=threading.Event(), drain=True)
    join.run(killed, **settings, stop=threading.Event(), drain=True, flush=True)

    made, letters = outcome(calm)
    assert outcome(killed) == (made, letters)
    assert len(set(letters)) == len(letters)
    rankings = sum(isinstance(record, Ranking) for record in records)
    at_once = sum(decode(Example, value).label_state == "none" for _, value in made)
    assert at_once + sum(topic == "rankings" for topic, *_ in letters) == rankings, "each ranking once, or refused"
    assert counts["ahead"] == counts["dead_letters"] == len(letters)
    assert counts["rankings"] == counts["closed"] == at_once
    assert counts["examples"] == len(made)
    calm.close()
    killed.close()


@pytest.mark.slow
def test_the_position_fits_with_1024_partitions_and_offsets_of_19_digits(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(1024, 1))
    log.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE partitions SET beginning = 9000000000000000000, next = 9000000000000000000")
        file.commit()
    log = open_log(LogSettings(path=str(path)))
    lists = world.impressions(400)
    clicks = world.feedback(lists)
    feed(log, [*lists, *clicks])
    score_all(log)
    settings = {**SETTINGS, "batch": 160, "idle_s": 60.0}
    with log.stage("hostile").transaction() as transaction:
        for partition in range(1024):
            transaction.send("feedback", b"{", key=b"x", partition=partition)
    died = killed_again_and_again(
        lambda die: join.run(log, **settings, stop=threading.Event(), drain=True, progress=die),
        times=3,
        after=lambda: 3,
    )
    assert died == 3
    join.run(log, **settings, stop=threading.Event(), drain=True)
    join.run(log, **settings, stop=threading.Event(), drain=True, flush=True)
    made = examples(log)
    assert labelled(made) == expected_labels(lists, clicks)
    assert len(soft(made)) == 400
    letters = [dict(message.headers) for message in everything(log, DEAD_LETTERS)]
    assert len(letters) == len({letter["partition"] for letter in letters}) == 1024
    stage = log.stage("join", [TopicPartition("rankings", p) for p in range(1024)])
    assert min(stage.position().values()) >= 9_000_000_000_000_000_000
    assert len(stage.note()) < 200
    assert all(len(line) < 200 for line in stage.notes().values())
    stage.close()
    log.close()


def test_a_note_that_nobody_can_read_is_one_sentence(log: Log) -> None:
    tp = TopicPartition("rankings", 0)
    stage = log.stage("join", [tp])
    with stage.transaction() as transaction:
        transaction.commit_inputs({tp: 0}, '{"n": "many"}')
    stage.close()
    with pytest.raises(StreamError, match="at the joiner's position is not one of this version"):
        join.run(log, **SETTINGS, stop=threading.Event(), drain=True)


def test_an_example_has_the_time_at_which_the_log_took_its_impression(log: Log) -> None:
    lists = world.impressions(40)
    taken_us = {}
    with log.stage("product").transaction() as transaction:
        for n, one in enumerate(lists):
            taken_us[one.id] = 1_600_000_000_000_000 + 1000 * n
            transaction.send("impressions", encode(one), key=key_of(one), time_us=taken_us[one.id])
    score_all(log)
    join.run(log, **SETTINGS, stop=threading.Event(), drain=True, flush=True)
    rankings = {decode(Ranking, m.value).impression.id: m.time_us for m in everything(log, "rankings")}
    made = {decode(Example, m.value).ranking.impression.id: m.time_us for m in everything(log, "examples")}
    assert rankings == taken_us
    assert made == taken_us


@pytest.mark.slow
def test_a_joiner_with_many_silent_partitions_stops_soon(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(64, 1))
    stop = threading.Event()
    began = time.monotonic()
    join.run(log, wait_s=1.0, stop=stop, progress=lambda done, total: stop.set())
    assert time.monotonic() - began < 60, "one wait for all partitions, not one for each: that would be 128 s"
    log.close()


@pytest.mark.slow
def test_scores_are_an_example_long_before_the_window_is_over_and_labels_soon_after_it(log: Log) -> None:
    lists = world.impressions(32)  # one a second
    clicks = world.feedback(lists)
    settings = SETTINGS | {"batch": 1000}
    written: dict[str, dict[str, int]] = {"none": {}, "labels": {}}
    seen = 0
    for n, one in enumerate(lists):
        # What comes within this second. Then the joiner looks once.
        second = (one.time_us, one.time_us + 1_000_000)
        feed(log, [one, *(click for click in clicks if second[0] <= click.time_us < second[1])])
        score_all(log)
        join.run(log, **settings, stop=threading.Event(), drain=True)
        made = examples(log)
        for example in made[seen:]:
            written[example.label_state][example.ranking.impression.id] = n
        seen = len(made)
    # The first records of a log wait until enough others stand beside them: their times are half a century old.
    later = {one.id: n for n, one in enumerate(lists) if n >= 20}
    assert {name: written["none"][name] for name in later} == later, "in the second in which it was scored"
    expected = {name for name, labels in expected_labels(lists[20:25], clicks).items() if any(labels)}
    waited = {name: written["labels"][name] - written["none"][name] for name in expected}
    assert waited
    assert set(waited.values()) <= {5, 6, 7}, "within seconds of the end of the window"


def test_a_user_that_is_held_out_is_in_no_example_and_all_of_its_lists_are_in_held_out(log: Log) -> None:
    lists = [
        msgspec.structs.replace(one, user=f"user-{n % 12}") if n % 4 else msgspec.structs.replace(one, user=None)
        for n, one in enumerate(world.impressions(160))
    ]
    clicks = world.feedback(lists)
    feed(log, [*lists, *clicks])
    score_all(log)
    share = Share(least=0.3, most=0.3, per_day=1.0)
    held = [one.id for one in lists if share.holds(one.user or one.id, one.time_us)]
    assert 10 < len(held) < 100
    counts = join.run(log, **SETTINGS, held_out=(0.3, 0.3, 1.0), stop=threading.Event(), drain=True, flush=True)
    learnt = {example.ranking.impression.id for example in examples(log)}
    assert learnt == {one.id for one in lists} - set(held)
    kept = [decode(Example, message.value) for message in everything(log, "held-out")]
    assert [example.ranking.impression.id for example in kept] == held, "also those that nobody clicked"
    assert {example.label_state for example in kept} == {"closed"}
    expected = expected_labels(lists, clicks)
    assert {example.ranking.impression.id: example.labels for example in kept} == {
        name: expected[name] for name in held
    }
    assert counts["held_out"] == len(held)


def test_a_snapshot_spares_the_reading_and_a_damaged_one_changes_nothing(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists = world.impressions(60)
    feed(log, [*lists[:50], *world.feedback(lists[:50])])
    score_all(log)
    settings = SETTINGS | {"window_s": 1000.0, "directory": tmp_path / "window"}
    join.run(log, **settings, stop=threading.Event(), drain=True)
    (folder,) = (tmp_path / "window").iterdir()
    assert (folder / "lists.bin").stat().st_size > 0
    counts = join.run(log, **settings, stop=threading.Event(), drain=True)
    assert (counts["open"], counts["examples"]) == (50, 0)
    assert "snapshot" not in caplog.text
    (folder,) = (tmp_path / "window").iterdir()
    (folder / "lists.bin").write_bytes(b"no lists")
    feed(log, lists[50:])
    score_all(log)
    counts = join.run(log, **settings, stop=threading.Event(), drain=True, flush=True)
    assert "a snapshot of the joiner's window cannot be used" in caplog.text
    made = examples(log)
    assert soft(made) == [one.id for one in lists]
    assert counts["closed"] == 60


def test_a_log_without_the_topic_for_what_is_held_out_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics({name: count for name, count in standard_topics().items() if name != "held-out"})
    lists = world.impressions(20)
    feed(log, lists)
    score_all(log)
    join.run(log, **SETTINGS, held_out=(0.5, 0.5, 1.0), stop=threading.Event(), drain=True, flush=True)
    assert soft(examples(log)) == [one.id for one in lists]
    assert "the log has no topic held-out; `recdistill topics create` makes it" in caplog.text
    log.close()


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("soft_when", ["at_once", "with_labels"])
def test_the_silence_of_a_served_list_is_a_label_and_that_of_a_probe_is_not(
    log: Log, soft_when: str, held_out: bool
) -> None:
    origins = ("product", "student", "served")
    lists = [msgspec.structs.replace(one, origin=origins[n % 3]) for n, one in enumerate(world.impressions(90))]
    clicks = [click for click in world.feedback(lists) if int(click.impression_id[-1]) % 2]
    feed(log, [*lists, *clicks])
    score_all(log)
    share = (1.0, 1.0, 1.0) if held_out else (0.0, 0.0, 1.0)
    settings = SETTINGS | {"soft": soft_when, "held_out": share}
    join.run(log, **settings, stop=threading.Event(), drain=True, flush=True)
    expected = expected_labels(lists, clicks)
    silent = {one.id: one.origin for one in lists if not any(expected[one.id])}
    assert set(silent.values()) == set(origins)
    made = {e.ranking.impression.id: e for m in everything(log, "held-out") for e in [decode(Example, m.value)]}
    if not held_out:
        made = {e.ranking.impression.id: e for e in examples(log) if e.label_state != "none"}
    for name, origin in silent.items():
        if held_out:
            assert made[name].label_state == ("none" if origin == "student" else "closed"), "the judge reads it here"
        elif soft_when == "with_labels":
            assert (name in made) == (origin != "student")
        else:
            assert (name in made) == (origin == "served"), "an example with labels alone, all of them 0"


def test_a_snapshot_of_what_a_power_cut_took_is_not_used_when_the_log_has_grown_again(tmp_path: Path) -> None:
    """The log is put back to an earlier copy, and then holds other records where the lost ones were."""

    def kill(done: int, total: int | None) -> None:
        if done >= (total or 0):
            raise Abort("before another snapshot was written")

    def step(path: Path, directory: Path | None, *records: Ranking | Feedback, progress: Progress | None = None) -> Log:
        log = EmbeddedLog(path)
        log.create_topics(standard_topics())
        feed(log, records)
        with suppress(Abort):
            join.run(log, window_s=1000, directory=directory, stop=threading.Event(), drain=True, progress=progress)
        return log

    def lists(name: str, count: int, at: int) -> list[Ranking]:
        shown = [
            Impression(f"{name}{n}", (at + n) * SECOND, candidates=(Candidate("a"), Candidate("b")))
            for n in range(count)
        ]
        return [Ranking(one, "t", "1", "unbounded", scores=(1.0, 2.0), scored=(True, True)) for one in shown]

    clicks = [Feedback(f"f{n}", f"new{n}", "b", "click", time_us=(1100 + n) * SECOND) for n in range(12)]
    path, copy, directory = tmp_path / "log.sqlite", tmp_path / "copy", tmp_path / "snapshot"
    step(path, None, *lists("old", 5, 1000)).close()
    shutil.copy(path, copy)
    step(path, directory, *lists("lost", 5, 1010)).close()
    assert len(list(directory.glob("window-*"))) == 1
    shutil.copy(copy, path)
    step(path, directory, *lists("new", 12, 1010), progress=kill).close()
    log = step(path, directory, *clicks, *lists("end", 20, 9000))
    found = [decode(Example, message.value) for message in everything(log, "examples")]
    given = {one.ranking.impression.id: one.labels for one in found if one.label_state == "labels"}
    assert given == {f"new{n}": (0.0, 1.0) for n in range(12)}
    log.close()


def test_a_snapshot_that_is_older_than_what_the_log_holds_is_not_used(tmp_path: Path) -> None:
    """The folder comes from a machine on which the joiner ran long ago. Since then retention has removed records."""

    def write(log: Log, first: int, stop: int) -> None:
        with closing(log.stage("writer")) as stage, stage.transaction() as transaction:
            for n in range(first, stop):
                shown = Impression(f"r{n}", (1000 + n) * SECOND, candidates=(Candidate("a"), Candidate("b")))
                ranking = Ranking(shown, "t", "1", "logit", scores=(1.0, 2.0), scored=(True, True))
                click = Feedback("f", f"r{n}", "b", "click", time_us=(1001 + n) * SECOND)
                for topic, record in (("rankings", ranking), ("feedback", click)):
                    transaction.send(topic, encode(record), key=key_of(record), time_us=(1000 + n) * SECOND)

    def run(log: Log, directory: Path | None, *, flush: bool = False) -> None:
        join.run(log, window_s=10, directory=directory, stop=threading.Event(), drain=True, flush=flush)

    def made(log: Log) -> list[bytes | None]:
        return [message.value for message in everything(log, "examples")]

    directory, old = tmp_path / "snapshot", tmp_path / "old"
    with closing(EmbeddedLog(tmp_path / "log.sqlite")) as log, closing(EmbeddedLog(tmp_path / "calm.sqlite")) as calm:
        for each in (log, calm):
            each.create_topics(standard_topics())
            write(each, 0, 50)
            run(each, directory if each is log else None)
        shutil.copytree(directory, old)
        for each in (log, calm):
            write(each, 50, 200)
            run(each, directory if each is log else None)
        shutil.rmtree(directory)
        shutil.copytree(old, directory)
        for tp, offset in log.positions()["join"].items():
            log.trim(tp, offset)
        for each in (log, calm):
            write(each, 200, 220)
            run(each, directory if each is log else None, flush=True)
        assert len(made(calm)) == 440
        assert made(log) == made(calm)

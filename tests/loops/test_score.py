"""The scorer: each impression one ranking, whatever fails around it."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import world

from recdistill.config import LogSettings
from recdistill.errors import ConfigError, StreamError, TeacherError
from recdistill.loops import score
from recdistill.loops.feed import feed
from recdistill.records import (
    DEAD_LETTERS,
    Candidate,
    Impression,
    Item,
    Ranking,
    codec,
    decode,
    encode,
    encode_around,
    to_json,
)
from recdistill.stream import Log, Message, Source, open_log, standard_topics
from recdistill.stream.testing import everything
from recdistill.teachers import Scores
from recdistill.teachers.function import FunctionTeacher


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=3, lanes=2))
    yield log
    log.close()


def rankings(log: Log) -> list[Ranking]:
    return [decode(Ranking, message.value) for message in everything(log, "rankings")]


def teacher(function=world.by_hash) -> FunctionTeacher:  # type: ignore[no-untyped-def]
    return FunctionTeacher(function, "hash", "3", "logit")


def run(log: Log, function=world.by_hash, **settings):  # type: ignore[no-untyped-def]
    return score.run(log, teacher(function), batch=16, wait_s=0.05, **settings, stop=threading.Event(), drain=True)


def test_each_impression_has_one_ranking_in_its_own_partition(log: Log) -> None:
    lists = world.impressions(100)
    feed(log, [*world.items(), *lists])
    counts = run(log)
    assert counts["rankings"] == counts["impressions"] == 100
    made = {ranking.impression.id: ranking for ranking in rankings(log)}
    assert set(made) == {one.id for one in lists}
    for one in lists:
        ranking = made[one.id]
        assert ranking.impression == one
        assert ranking.scores == pytest.approx(world.by_hash([one])[0])
        assert (ranking.teacher_id, ranking.teacher_version, ranking.scale) == ("hash", "3", "logit")
    items_end = log.source(["items"]).bounds(score.ITEMS)[1]
    assert {ranking.catalogue_as_of for ranking in made.values()} == {items_end}
    place = {m.key: m.tp.partition for m in everything(log, "impressions")}
    assert all(place[m.key] == m.tp.partition for m in everything(log, "rankings"))
    assert run(log)["impressions"] == 0  # nothing is scored twice


def test_items_that_come_while_it_waits_belong_to_the_lists_that_come_with_them(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, stop = world.impressions(30), threading.Event()
    with closing(log.source(["impressions"])) as any_source:
        kind = type(any_source)
    plain = kind.read

    def read(source: Source, most: int, wait_s: float) -> Sequence[Message]:
        """While the scorer waits for its first list, a shop opens."""
        if not any(tp.topic == "impressions" for tp in source.position()):
            return plain(source, most, wait_s)
        if lists:
            feed(log, [*world.items(), *lists])
            lists.clear()
        if not (found := plain(source, most, wait_s)):
            stop.set()
        return found

    monkeypatch.setattr(kind, "read", read)
    score.run(log, teacher(), batch=16, wait_s=0.05, stop=stop)
    monkeypatch.undo()
    items_end = log.source(["items"]).bounds(score.ITEMS)[1]
    assert [ranking.catalogue_as_of for ranking in rankings(log)] == [items_end] * 30


def test_the_rankings_are_byte_for_byte_those_of_lists_that_are_decoded_one_by_one(log: Log) -> None:
    """Ordinary lists, one in JSON, one framed by somebody else's schema, one with a field of a newer version."""
    lists = world.impressions(60)
    feed(log, [*world.items(), *lists[:57]])
    values = [encode(one) for one in lists]
    odd = [to_json(lists[57]), b"\0\0\0\0\7" + values[58][5:], values[59] + b"\xfa\x07\x01x"]
    with log.stage("others").transaction() as transaction:
        for one, value in zip(lists[57:], odd, strict=True):
            transaction.send("impressions", value, key=one.id.encode(), partition=0)
    run(log, clock_us=lambda: 7)
    items_end = log.source(["items"]).bounds(score.ITEMS)[1]
    found = {message.key: message.value for message in everything(log, "rankings")}
    assert len(found) == 60
    for message in everything(log, "impressions"):
        one = decode(Impression, message.value)
        scores = tuple(np.array(world.by_hash([one])[0], np.float32).tolist())
        ranking = Ranking(one, "hash", "3", "logit", scores, (True,) * len(scores), 7, items_end)
        expected = encode(ranking) if message.value[:1] == b"{" else encode_around(ranking, message.value or b"")
        assert found[message.key] == expected


def test_a_record_that_does_not_decode_and_a_list_that_fails_are_set_aside_whole(log: Log) -> None:
    lists = world.impressions(20)

    def picky(batch: Sequence[Impression]) -> list[list[float]]:
        if any(one.id == "imp-7" for one in batch):
            raise ValueError("I do not like imp-7")
        return world.by_hash(batch)

    feed(log, lists[:10])
    with log.stage("hostile").transaction() as transaction:
        transaction.send("impressions", b"\x00garbage", key=b"imp-bad", partition=0, headers=[("trace", b"42")])
    feed(log, lists[10:])
    counts = run(log, picky)
    assert counts["rankings"] == 19
    assert counts["dead_letters"] == 2
    dead = {dict(m.headers)["error"].split(b":")[0]: m for m in everything(log, DEAD_LETTERS)}
    assert dead[b"DecodeError"].value == b"\x00garbage"
    assert dict(dead[b"DecodeError"].headers)["original.trace"] == b"42"
    failed = dead[b"TeacherError"]
    assert decode(Impression, failed.value).id == "imp-7"
    assert b"I do not like imp-7" in dict(failed.headers)["error"]


def test_masks_and_scores_that_are_no_numbers(log: Log) -> None:
    lists = world.impressions(3)
    feed(log, lists)

    def partly(batch: Sequence[Impression]) -> list[list[float | None]]:
        answers: list[list[float | None]] = [list(row) for row in world.by_hash(batch)]
        for one, row in zip(batch, answers, strict=True):
            if one.id == "imp-0":
                row[2] = None
            if one.id == "imp-1":
                row[0] = float("nan")
            if one.id == "imp-2":
                row.pop()
        return answers

    counts = run(log, partly)
    assert (counts["rankings"], counts["dead_letters"], counts["missing"]) == (2, 1, 2)
    first, second = sorted(rankings(log), key=lambda ranking: ranking.impression.id)
    assert first.scored == (True, True, False, True, True, True)
    assert first.scores[2] == 0.0
    assert second.scored == (False, True, True, True, True, True)
    assert second.scores == pytest.approx([0.0, *world.by_hash(lists[1:2])[0][1:]])


class Wild:
    """A teacher that returns what no ranking can hold, as a numpy array."""

    id, version, scale = "wild", "1", "logit"

    def apply_items(self, items: Sequence[Item]) -> None:
        pass

    def score(self, impressions: Sequence[Impression], *, deadline_s: float | None = None) -> list[Scores]:
        odd = np.array([1.0, np.nan, np.inf, -np.inf, 3e38, 2.0], np.float32)
        return [Scores(odd, np.ones(6, bool)) for _ in impressions]


def test_scores_that_are_not_finite_are_masked_for_every_kind_of_teacher(log: Log) -> None:
    feed(log, world.impressions(3))
    counts = score.run(log, Wild(), wait_s=0.05, stop=threading.Event(), drain=True)  # type: ignore[arg-type]
    assert (counts["rankings"], counts["dead_letters"], counts["missing"]) == (3, 0, 12)
    for ranking in rankings(log):
        assert ranking.scored == (True, False, False, False, False, True)
        assert ranking.scores == (1.0, 0.0, 0.0, 0.0, 0.0, 2.0)


def test_a_teacher_whose_name_fits_no_ranking_is_said_before_a_record_is_touched(log: Log) -> None:
    feed(log, world.impressions(3))
    nameless = FunctionTeacher(world.by_hash, "hash", "v" * 600, "logit")
    with pytest.raises(TeacherError, match="teacher_version has 600 characters, more than 512; choose other names"):
        score.run(log, nameless, wait_s=0.05, stop=threading.Event(), drain=True)
    assert everything(log, DEAD_LETTERS) == []
    assert run(log)["rankings"] == 3


def test_a_list_too_large_for_a_ranking_is_a_dead_letter_and_the_others_go_on(log: Log) -> None:
    """A product may write an impression that has no room for its scores. It cannot be imported, but it can be sent."""
    lists = world.impressions(4)
    large = Impression("large", 5, candidates=tuple(Candidate(f"item-{n:07}") for n in range(60_000)))
    value = codec.write(large)
    assert len(value) < 1_000_000
    feed(log, lists[:2])
    with log.stage("product").transaction() as transaction:
        transaction.send("impressions", value, key=b"large")
        transaction.send(
            "impressions", codec.write(msgspec.structs.replace(large, candidates=large.candidates[:44_000]))
        )
    feed(log, lists[2:])
    counts = run(log)
    assert (counts["rankings"], counts["dead_letters"]) == (4, 2)
    assert run(log)["impressions"] == 0
    letters = {len(message.value or b""): dict(message.headers)["error"] for message in everything(log, DEAD_LETTERS)}
    assert letters[len(value)] == b"DecodeError: not an impression: candidates has 60000 entries, more than 50000"
    [error] = [error for size, error in letters.items() if size != len(value)]
    assert b"the scores and labels of 44,000 candidates need the rest; send fewer candidates" in error


def test_a_teacher_that_is_down_stops_the_scorer_and_loses_nothing(log: Log) -> None:
    feed(log, world.impressions(50))

    def down(batch: Sequence[Impression]) -> list[list[float]]:
        raise ConnectionError("no route")

    with pytest.raises(TeacherError, match=r"in a row, last: .*no route; nothing of this batch was written"):
        run(log, down, give_up_after=10)
    assert everything(log, DEAD_LETTERS) == []
    assert rankings(log) == []
    assert run(log)["rankings"] == 50


def test_workers_share_the_partitions(log: Log) -> None:
    feed(log, world.impressions(60))
    first = run(log, worker=0, workers=2)
    second = run(log, worker=1, workers=2)
    assert first["rankings"] + second["rankings"] == 60
    assert min(first["rankings"], second["rankings"]) > 0
    with pytest.raises(ConfigError, match="only 2 workers"):
        run(log, worker=2, workers=2)


def test_a_log_without_topics_is_named(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "empty.sqlite")))
    with pytest.raises(StreamError, match="recdistill topics create"):
        run(log)
    log.close()

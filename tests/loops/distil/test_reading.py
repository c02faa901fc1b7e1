"""Small batches: they end where the log's times say, after a kill too."""

from __future__ import annotations

import random
import threading
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import pytest
from support import distilling, world
from support.distilling import settings

from recdistill.config import LogSettings
from recdistill.loops.distil.reading import Reading
from recdistill.records import Example, Ranking, encode
from recdistill.stream import TICK, Lanes, Log, open_log, standard_topics

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def planted(
    path: Path, at: Sequence[float], *, lanes: int = 2, broken: Sequence[int] = (), marks: Container[int] = ()
) -> Log:
    """A log of examples at these seconds of the log's time. The places of marks hold a mark of the joiner each."""
    log = open_log(LogSettings(path=str(path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=1, lanes=lanes))
    with log.stage("items").transaction() as transaction:
        for item in world.items(20):
            transaction.send("items", encode(item), key=item.id.encode())
    end = log.source(["items"]).bounds(next(iter(log.source(["items"]).position())))[1]
    with log.stage("planted").transaction() as transaction:
        lists = iter(world.impressions(len(at)))
        for n, second in enumerate(at):
            time_us = NOW + int(second * SECOND)
            if n in marks:
                transaction.send("examples", None, key=b"tick", partition=n % lanes, headers=(TICK,), time_us=time_us)
                continue
            asked = next(lists)
            scores = tuple(float(hash_of(asked.id, c.item)) for c in asked.candidates)
            ranking = Ranking(asked, "t", "1", "logit", scores, (True,) * len(scores), catalogue_as_of=end)
            value = b"broken" if n in broken else encode(Example(ranking, (0.0,) * len(scores), "none"))
            transaction.send("examples", value, partition=n % lanes, time_us=time_us)
    return log


def hash_of(list_: str, item: str) -> float:
    return random.Random(f"{list_} {item}").uniform(-2, 2)


def sizes(log: Log, wanted: int, within_s: float) -> tuple[list[int], int]:
    """The sizes of the batches, and how many examples are left over, waiting."""
    lanes = Lanes(log, dead_letters=lambda message, error: None)
    reading, found, nothing = Reading(lanes), [], 0
    while nothing < 30:  # times in a row: all of the log is read, and no batch comes
        batch = reading.batch(wanted, 0.0, until=None, within_s=within_s)
        nothing = nothing + 1 if batch is None else 0
        if batch is not None:
            found.append(len(batch))
            reading.taken()
    lanes.close()
    return found, len(reading)


@pytest.mark.many
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ([0, 0.5, 1.9, 2.0, 3, 3.5, 9], [3, 3]),  # windows of two seconds
        ([0, 0.1, 0.2, 0.3, 0.4, 0.5, 2], [4, 2]),  # four are a whole batch
        ([0, 1, 2, 1.5, 2.5, 4], [2, 3]),  # one that comes late opens no window
        ([1800, 0, 1800.5, 1, 1801, 1803], [4, 1]),  # labels of lists of half an hour ago lie between
        ([0, 100, 200, 300], [1, 1, 1]),
    ],
    ids=["windows", "whole", "late", "labels", "slow"],
)
def test_a_batch_ends_before_the_first_record_of_a_later_window(
    tmp_path: Path, at: list[float], expected: list[int]
) -> None:
    log = planted(tmp_path, at)
    found, left = sizes(log, 4, 2.0)
    assert found == expected
    assert left == len(at) - sum(expected)
    assert sizes(log, 4, 0.0)[0] == [4] * (len(at) // 4)
    log.close()


def test_records_that_are_no_examples_end_no_batch_alone(tmp_path: Path) -> None:
    log = planted(tmp_path, [0, 2, 4, 4.5, 6, 8], broken=[0, 1, 4])
    assert sizes(log, 4, 2.0) == ([2], 1)
    log.close()


@pytest.mark.many
@pytest.mark.parametrize("seed", range(8))
def test_a_mark_ends_a_batch_where_the_next_record_would_have(tmp_path: Path, seed: int) -> None:
    """The joiner writes one when the log's time is 2.5 s after the last list. The batch is only earlier."""
    chance = random.Random(seed)
    at, now = [], 0.0
    for _ in range(120):
        now += chance.choice([0.05, 0.1, 0.4, 2.6, 5.0])
        at.append(now - chance.choice([0, 0, 0, 0.3, 1800]))
    with_marks, marks, newest = [], set(), at[0]
    for second in [*at, now + 50]:
        if second - newest > 2.5:
            marks.add(len(with_marks))
            with_marks.append(newest + 2.5)
        newest = max(newest, second)
        with_marks.append(second)
    assert len(marks) > 10
    for name in ("plain", "marked", "ended"):
        (tmp_path / name).mkdir()
    plain = planted(tmp_path / "plain", [*at, now + 50])
    marked = planted(tmp_path / "marked", with_marks, marks=marks)
    ended = planted(tmp_path / "ended", with_marks[:-1], marks=marks)
    assert sizes(marked, 8, 2.0) == sizes(plain, 8, 2.0)
    # Behind the last mark nothing comes. The last examples are learnt all the same, and without it they would wait.
    assert sizes(ended, 8, 2.0) == (sizes(plain, 8, 2.0)[0], 0)
    assert sizes(ended, 8, 0.0)[0] == [8] * 15
    for log in (plain, marked, ended):
        log.close()


def test_a_list_of_a_wrong_clock_holds_the_next_ones_back_only_until_a_mark(tmp_path: Path) -> None:
    """On Kafka the log's time of a list is that of whoever wrote it, up to an hour ahead."""
    at = [0.0, 3000.0, 0.2, 3.0, 5.0, 5.1, 8.0, 9.0]
    log = planted(tmp_path, at, marks={3, 6})
    assert sizes(log, 8, 2.0) == ([1, 2, 2], 1)
    log.close()


def test_a_student_is_the_same_with_marks_and_without_them_and_after_kills(tmp_path: Path) -> None:
    at = [0.0, 0.4, 1.0, 4.0, 4.1, 9.0, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6, 9.7, 9.8, 14.0]
    states = []
    for name, times, marks in (
        ("plain", at, set[int]()),
        ("marked", [*at[:3], 3.5, *at[3:5], 6.7, *at[5:14], 12.5, *at[14:]], {3, 6, 16}),
    ):
        (tmp_path / name).mkdir()
        log = planted(tmp_path / name, times, marks=marks)
        for die_after in (*((1, 2, 1) if marks else ()), 0):
            stop, steps = threading.Event(), 0

            def look(
                done: int,
                total: int | None,
                *,
                die_after: int = die_after,
                stop: threading.Event = stop,
                marks: set[int] = marks,
            ) -> None:
                nonlocal steps
                steps += 1
                if steps == die_after:
                    raise Killed
                if done >= 14 + max(0, len(marks) - 1):  # it stands before the last mark
                    stop.set()

            chosen = settings(tmp_path / name / "student", learn_within_s=2.0, checkpoint_every=1, export_every=0)
            if die_after:
                with pytest.raises(Killed):
                    distilling.run(log, chosen, drain=False, stop=stop, progress=look)
            else:
                counts = distilling.run(log, chosen, drain=False, stop=stop, progress=look)
        assert counts["dead_letters"] == 0
        states.append(distilling.final(tmp_path / name / "student"))
        log.close()
    plain, marked = states
    assert plain.step == marked.step == 4  # 3, 2, 8 and 1; the fifteenth waits
    assert {name: one.tobytes() for name, one in plain.tensors.items()} == {
        name: one.tobytes() for name, one in marked.tensors.items()
    }


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    chance = random.Random(5)
    at, now = [], 0.0
    for _ in range(160):
        now += chance.choice([0.05, 0.05, 0.1, 0.6, 3.0])
        at.append(now - chance.choice([0, 0, 0, 1.0, 1800]))
    log = planted(tmp_path, [*at, now + 10], broken=[17, 31, 32])
    yield log
    log.close()


class Killed(Exception):
    """The process is gone."""


@pytest.mark.slow
def test_a_service_that_is_killed_anywhere_ends_its_batches_at_the_same_places(log: Log, tmp_path: Path) -> None:
    def serve(place: Path, die_after: int = 0) -> int:
        stop, steps = threading.Event(), 0

        def look(done: int, total: int | None) -> None:
            nonlocal steps
            steps += 1
            if steps == die_after:
                raise Killed
            if done >= 160:  # all but the last one, which waits for its window's end
                stop.set()

        chosen = settings(place, learn_within_s=2.0, export_every=3, checkpoint_every=4)
        distilling.run(log, chosen, drain=False, stop=stop, progress=look)
        return steps

    calm = serve(tmp_path / "calm")
    assert 161 / 8 + 5 < calm < 100  # more batches than whole ones, and not one for each example
    for die_after in (1, 6, 3, 9, 2):
        with pytest.raises(Killed):
            serve(tmp_path / "killed", die_after)
    serve(tmp_path / "killed")
    distilling.assert_same_state(tmp_path / "calm", tmp_path / "killed")


def test_a_drained_run_learns_whole_batches(log: Log, tmp_path: Path) -> None:
    counts = distilling.run(log, settings(tmp_path / "s", learn_within_s=2.0))
    assert counts["examples"] == 158
    assert counts["steps"] == 20

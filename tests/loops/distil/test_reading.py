"""Small batches: they end where the log's times say, after a kill too."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import distilling, world
from support.distilling import settings

from recdistill.config import LogSettings
from recdistill.loops.distil.reading import Reading
from recdistill.records import Example, Ranking, encode
from recdistill.stream import Lanes, Log, open_log, standard_topics

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def planted(path: Path, at: Sequence[float], *, lanes: int = 2, broken: Sequence[int] = ()) -> Log:
    """A log of examples at these seconds of the log's time."""
    log = open_log(LogSettings(path=str(path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=1, lanes=lanes))
    with log.stage("items").transaction() as transaction:
        for item in world.items(20):
            transaction.send("items", encode(item), key=item.id.encode())
    end = log.source(["items"]).bounds(next(iter(log.source(["items"]).position())))[1]
    with log.stage("planted").transaction() as transaction:
        for n, (asked, second) in enumerate(zip(world.impressions(len(at)), at, strict=True)):
            scores = tuple(float(hash_of(asked.id, c.item)) for c in asked.candidates)
            ranking = Ranking(asked, "t", "1", "logit", scores, (True,) * len(scores), catalogue_as_of=end)
            value = b"broken" if n in broken else encode(Example(ranking, (0.0,) * len(scores), "none"))
            transaction.send("examples", value, partition=n % lanes, time_us=NOW + int(second * SECOND))
    return log


def hash_of(list_: str, item: str) -> float:
    return random.Random(f"{list_} {item}").uniform(-2, 2)


def sizes(log: Log, wanted: int, within_s: float) -> tuple[list[int], int]:
    """The sizes of the batches, and how many examples are left over, waiting."""
    lanes = Lanes(log, dead_letters=lambda message, error: None)
    reading, found = Reading(lanes), []
    for _ in range(1000):
        batch = reading.batch(wanted, 0.0, until=None, within_s=within_s)
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

"""Another number of scorers: each impression has one ranking, whoever reads its partition, killed or not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import world

from recdistill.config import LogSettings
from recdistill.errors import ConfigError, Fenced
from recdistill.loops import score
from recdistill.loops.feed import feed
from recdistill.loops.workers import former_stages, partitions_of
from recdistill.records import Impression, Ranking, decode
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from recdistill.stream.testing import Abort, AbortingLog, everything
from recdistill.teachers.function import FunctionTeacher

PARTITIONS = 4


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=PARTITIONS))
    feed(log, world.items())
    yield log
    log.close()


def run(log: Log, *, worker: int = 0, workers: int = 1) -> Counter[str]:
    teacher = FunctionTeacher(world.by_hash, "hash", "3", "logit")
    return score.run(
        log, teacher, batch=16, wait_s=0.05, worker=worker, workers=workers, stop=threading.Event(), drain=True
    )


def rankings(log: Log) -> Counter[str]:
    return Counter(decode(Ranking, message.value).impression.id for message in everything(log, "rankings"))


def as_an_older_version(log: Log, *, worker: int, workers: int, most: int) -> None:
    """What the scorer did when each worker had a stage of its own: some more rankings of each of its partitions."""
    inputs = [TopicPartition("impressions", p) for p in partitions_of(PARTITIONS, worker=worker, workers=workers)]
    with closing(log.stage(f"score-{worker}", inputs)) as stage:
        for tp in inputs:
            source = log.source([tp], {tp: stage.position()[tp]})
            for message in source.read(most, 0.05):
                impression = decode(Impression, message.value)
                with stage.transaction() as transaction:
                    transaction.send("rankings", made(impression), key=message.key, partition=tp.partition)
                    transaction.commit_inputs({tp: message.offset + 1})
            source.close()


def made(impression: Impression) -> bytes:
    from recdistill.records import encode

    [scores] = world.by_hash([impression])
    return encode(
        Ranking(impression, "hash", "3", "logit", scores=tuple(scores), scored=(True,) * len(scores), scored_at_us=1)
    )


def test_any_number_of_workers_one_after_the_other_gives_one_ranking_each(log: Log) -> None:
    lists = world.impressions(418)
    for n, workers in enumerate((1, 2, 4, 3, 1)):
        feed(log, lists[84 * n : 84 * (n + 1)])
        done = [run(log, worker=worker, workers=workers)["rankings"] for worker in range(workers)]
        assert sum(done) == len(lists[84 * n : 84 * (n + 1)])
    assert rankings(log) == Counter(one.id for one in lists)
    # Nothing is left for anybody.
    assert [run(log, worker=worker, workers=4)["impressions"] for worker in range(4)] == [0, 0, 0, 0]


def test_a_worker_killed_at_any_step_leaves_its_partitions_to_another_number_of_workers(log: Log) -> None:
    lists = world.impressions(240)
    numbers, killed = (1, 2, 4, 1, 3, 2, 4, 1), 0
    for n, workers in enumerate(numbers):
        feed(log, lists[30 * n : 30 * (n + 1)])
        for worker in range(workers):
            try:
                run(AbortingLog(log, at=2 + 3 * n + worker), worker=worker, workers=workers)  # type: ignore[arg-type]
            except Abort:
                killed += 1
    assert killed >= 12
    run(log)
    assert rankings(log) == Counter(one.id for one in lists)


def test_partitions_can_be_added_in_between(log: Log) -> None:
    lists = world.impressions(200)
    feed(log, lists[:100])
    assert run(log)["rankings"] == 100
    log.grow_topics(dict.fromkeys(("impressions", "rankings", "feedback"), 6))
    feed(log, lists[100:])
    assert sum(run(log, worker=worker, workers=3)["rankings"] for worker in range(3)) == 100
    assert rankings(log) == Counter(one.id for one in lists)


def test_one_that_still_works_on_a_partition_that_has_moved_ends_and_writes_nothing(log: Log) -> None:
    lists = world.impressions(60)
    feed(log, lists)

    def late(batch):  # type: ignore[no-untyped-def]
        """The teacher of a worker that is paused: meanwhile there is another number of workers."""
        if not rankings(log):
            run(log, worker=1, workers=2)
        return world.by_hash(batch)

    with pytest.raises(Fenced, match="newer process has taken over impressions/1 of the stage 'score'"):
        score.run(
            log, FunctionTeacher(late, "hash", "3", "logit"), batch=16, wait_s=0.05, stop=threading.Event(), drain=True
        )
    run(log, worker=0, workers=2)
    assert rankings(log) == Counter(one.id for one in lists)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_positions_of_an_older_version_are_taken_over(
    log: Log, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    lists = world.impressions(200)
    feed(log, lists)
    as_an_older_version(log, worker=0, workers=1, most=20)
    # Two workers went on: worker 1 began at the beginning of its partitions, which the first had done.
    as_an_older_version(log, worker=0, workers=2, most=5)
    as_an_older_version(log, worker=1, workers=2, most=10)
    twice = {id_ for id_, count in rankings(log).items() if count > 1}
    assert len(twice) == 20  # what the older version did itself
    for worker in range(workers):
        run(log, worker=worker, workers=workers)
    found = rankings(log)
    assert set(found) == {one.id for one in lists}
    assert {id_ for id_, count in found.items() if count > 1} == twice
    assert sum("of an older version stopped" in record.getMessage() for record in caplog.records) == PARTITIONS
    assert run(log)["impressions"] == 0


def test_names_of_older_versions_are_as_many_as_partitions() -> None:
    assert former_stages(3) == ["score-0", "score-1", "score-2"]
    with pytest.raises(ConfigError, match="only 2 workers"):
        partitions_of(4, worker=2, workers=2)

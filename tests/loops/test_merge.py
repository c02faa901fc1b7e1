"""The merge of partitions: one order, also where each partition holds a few records far apart."""

from pathlib import Path

from recdistill.config import LogSettings
from recdistill.loops import ends_of
from recdistill.loops.ahead import Guard
from recdistill.loops.merge import Merge
from recdistill.records import Candidate, Impression, Ranking, encode
from recdistill.stream import Log, TopicPartition, open_log

S = 1_000_000
YEAR_2005, YEAR_2015 = 1_104_537_600, 1_420_070_400


def written(path: Path, times: dict[int, list[int]]) -> Log:
    """A log whose rankings have these times, in seconds, by partition."""
    log = open_log(LogSettings(path=str(path)))
    log.create_topics({"rankings": len(times)})
    with log.stage("product").transaction() as transaction:
        for partition, seconds in times.items():
            for n, second in enumerate(seconds):
                one = Impression(f"r{partition}-{n}", second * S, candidates=(Candidate("a"),))
                ranking = Ranking(one, "t", "1", "logit", scores=(1.0,), scored=(True,))
                transaction.send("rankings", encode(ranking), partition=partition)
    return log


def times_taken(path: Path, times: dict[int, list[int]], *, last: bool = False) -> list[int]:
    """Seconds of the records as the merge hands them out; `times` are those of each partition."""
    log = written(path, times)
    tps = [TopicPartition("rankings", partition) for partition in times]
    source = log.source(tps)
    merge = Merge(source, {tp: Guard(600) for tp in tps}, batch=1000, wait_s=0.01, idle_s=60, clock=lambda: 0.0)
    ends = ends_of(source, tps)
    taken = [one.order_us // S for one in merge.take(ends, last=last)]
    assert merge.at_end(ends)
    source.close()
    log.close()
    return taken


def test_few_old_records_in_many_partitions_are_vouched_for_by_each_other(tmp_path: Path) -> None:
    # Each partition has three records, days apart, so none of them has enough neighbours of its own.
    times = {p: [YEAR_2005 + 60 * p + 2 * 86_400 * n for n in range(3)] for p in range(40)}
    everything = sorted(second for seconds in times.values() for second in seconds)
    taken = times_taken(tmp_path / "log.sqlite", times)
    assert taken == everything[: len(taken)]
    assert len(taken) == len(everything)


def test_a_record_that_waits_for_a_verdict_holds_back_what_comes_after_those_behind_it(tmp_path: Path) -> None:
    steady = [YEAR_2005 + 10 * n for n in range(200)]
    doubtful = [*steady[:50], YEAR_2015, *steady[50:53]]
    taken = times_taken(tmp_path / "a.sqlite", {0: steady, 1: doubtful})
    assert taken == sorted([*steady[:50], *steady[:50]]) + [second for second in steady if second == steady[50]]
    assert (
        times_taken(tmp_path / "b.sqlite", {0: steady, 1: doubtful}, last=True)
        == [
            *sorted([*steady[:50], *steady[:50]]),
            -1,  # the refused one is handed out at once
            *sorted([*steady[50:], *steady[50:53]]),
        ]
    )


def test_a_silent_partition_lets_go_though_another_one_has_more_than_was_read(tmp_path: Path) -> None:
    log = written(tmp_path / "log.sqlite", {0: list(range(100, 120)), 1: [100]})
    tps = [TopicPartition("rankings", partition) for partition in (0, 1)]
    source = log.source(tps)
    # It reads four records at once, so most of the first partition is unread when the second one has no more.
    merge = Merge(source, {tp: Guard(600) for tp in tps}, batch=4, wait_s=0.01, idle_s=60, clock=lambda: 0.0)
    taken = []
    for _ in range(5):
        taken += [one.order_us // S for one in merge.take(None)]
    assert len(taken) < 20, "the silent partition holds the other one back"
    assert source.position()[tps[0]] < source.bounds(tps[0])[1]
    for _ in range(20):
        assert merge.at_ends()
        merge.let_go()
        taken += [one.order_us // S for one in merge.take(None)]
    assert taken == [100, *range(100, 120)]
    source.close()
    log.close()

"""Freshness: histograms that Prometheus' own parser reads, and figures that agree with planted times."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import distilling, world

from recdistill.bundle import Bundle, BundleFolder
from recdistill.config import LogSettings
from recdistill.hops import Counts, passed
from recdistill.loops import join, score
from recdistill.loops.announce import Announcer
from recdistill.loops.feed import feed
from recdistill.loops.standing import announced, hops_of
from recdistill.serve.http.metrics import Metrics
from recdistill.stream import open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher


def samples(text: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_prometheus_own_parser_reads_the_same_from_a_worker_and_from_the_ranker() -> None:
    counts = Counts(swaps=1)
    passed(counts, "served", [10_000_000, 99_000_000], at_us=100_250_000)
    passed(counts, "served", 50_000_000, at_us=100_250_000)
    worker = samples("\n".join(counts.lines()) + "\n")
    assert worker["recdistill_freshness_seconds_count", "served"] == 3
    assert worker["recdistill_freshness_seconds_sum", "served"] == pytest.approx(90.25 + 1.25 + 50.25)
    buckets = {name[2]: value for name, value in worker.items() if name[0].endswith("_bucket")}
    assert [buckets[end] for end in ("1", "2", "30", "60", "120", "+Inf")] == [0, 1, 1, 2, 3, 3]
    assert worker["recdistill_newest_event_seconds", "served"] == 50.0, "what serves now, also after a rollback"
    ranker = samples(Metrics(counts, dict).text().decode())
    assert {name: value for name, value in ranker.items() if name in worker} == pytest.approx(worker)


def test_what_the_detectors_of_drift_see_is_a_gauge() -> None:
    counts = Counts()
    counts.drift = {("inputs", "list lengths"): 0.25, ("agreement", "agreement"): 0.5}
    found = samples("\n".join(counts.lines()) + "\n")
    assert found["recdistill_drift", "inputs", "list lengths"] == 0.25
    assert found["recdistill_drift", "agreement", "agreement"] == 0.5


def test_what_is_not_known_is_not_noted() -> None:
    counts = Counts()
    passed(counts, "scored", [0, 0])
    passed(counts, "learnt", 0)
    assert counts.hops == {}
    assert list(counts.lines()) == []
    passed(Counter(), "scored", 5)  # plain counts take none
    passed(counts, "scored", 9_000_000, at_us=8_000_000)  # a clock that is ahead
    assert counts.hops["scored"].sum_s == 0


@pytest.mark.slow
def test_the_figures_agree_with_planted_times_within_a_second(tmp_path: Path) -> None:
    """Lists of 100 and 40 s ago go through scorer, joiner, distiller and announcer on an embedded log."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    now_us = time.time_ns() // 1000
    planted = {f"{n}": now_us - (100 if n < 20 else 40) * 1_000_000 for n in range(40)}
    lists = [
        msgspec.structs.replace(one, id=f"{n}", time_us=planted[f"{n}"], history=(), context={})
        for n, one in enumerate(world.impressions(40))
    ]
    feed(log, [*world.items(20), *lists])
    counts = {name: Counts() for name in ("scorer", "distiller")}
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    before_us = time.time_ns() // 1000
    score.run(log, teacher, stop=threading.Event(), drain=True, wait_s=0.05, counts=counts["scorer"])
    after_us = time.time_ns() // 1000
    scored = counts["scorer"].hops["scored"]
    assert scored.count == 40
    mean_s = (100 + 40) / 2
    assert (before_us - now_us) / 1e6 - 0.1 <= scored.sum_s / 40 - mean_s <= (after_us - now_us) / 1e6 + 0.1
    join.run(log, window_s=1, stop=threading.Event(), drain=True, wait_s=0.02)
    announcer = Announcer(log, lambda _: 0)
    begun_us = time.time_ns() // 1000
    made: list[Bundle | BundleFolder] = []

    class Publishing:
        def begin(self, student: str, bundles: Path) -> None:
            announcer.begin(student, bundles)

        def __call__(self, bundle: BundleFolder) -> None:
            made.append(bundle)
            announcer(bundle)

    distilling.run(log, distilling.settings(tmp_path / "student"), counts=counts["distiller"], publish=Publishing())
    done_us = time.time_ns() // 1000
    learnt, exported = (counts["distiller"].hops[hop] for hop in ("learnt", "exported"))
    assert learnt.count == 40
    assert begun_us <= learnt.at_us <= exported.at_us <= done_us
    newest_us = now_us - 40_000_000
    assert learnt.newest_us == exported.newest_us == newest_us
    [bundle] = made
    assert bundle.manifest.provenance["event_us"] == newest_us
    hops = {one.hop: one for one in hops_of(log, announced(log), [], [])}
    assert list(hops) == ["scored", "learnt", "exported"]
    for hop, truth in (("scored", scored), ("learnt", learnt), ("exported", exported)):
        told = hops[hop]  # type: ignore[index]
        assert told.event_us == newest_us
        assert told.took_s == pytest.approx((truth.at_us - newest_us) / 1e6, abs=1.0), hop
    announcer.close()
    log.close()

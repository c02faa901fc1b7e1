"""A release verifies its bundle once for each process that reads it: distiller none, promoter once, ranker once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings
from recdistill.judge import Asked, gate
from recdistill.loops import endpoint, promote
from recdistill.loops.announce import Announcer
from recdistill.loops.feed import feed
from recdistill.records import Candidate, Event, Example, Impression, Ranking
from recdistill.registry import Registry
from recdistill.sealed import FileEntry, Seal
from recdistill.stream import Lanes, open_log, standard_topics
from references.students import NOW_US, make_requests, make_student
from tools.mlflow_server import new_file

LENIENT = Asked(retention=0.0, champion=0.0, beats_popularity=False, parity=1.0, min_lists=20)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file has been read and compared with its digest."""
    counts: Counter[str] = Counter()
    check = Seal._check

    def counted(self: Seal, path: Path, entry: FileEntry, size: int, sha256: str) -> None:
        counts[path.name] += 1
        check(self, path, entry, size, sha256)

    monkeypatch.setattr(Seal, "_check", counted)
    return counts


def example(n: int) -> Example:
    random = np.random.default_rng(n)
    shown = tuple(Candidate(f"item-{i}") for i in random.permutation(60)[:8])
    history = tuple(Event(f"item-{i}", NOW_US - 1000 + i, "click") for i in range(n % 3, 9))
    asked = Impression(f"r{n}", NOW_US + n, None, history, {}, shown)
    ranking = Ranking(asked, "t", "1", "logit", tuple(float(x) for x in random.normal(size=8)), (True,) * 8)
    return Example(ranking, (1.0,) + (0.0,) * 7, "closed")


def once(counts: Counter[str]) -> bool:
    """Whether each of the bundle's files was verified, and none of them twice; forgets what was counted."""
    found = dict(counts)
    counts.clear()
    return len(found) == 10 and set(found.values()) == {1}


@pytest.mark.mlflow
def test_once_in_each_process(tmp_path: Path, verified: Counter[str]) -> None:
    settings = Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        registry=RegistrySettings(uri=new_file(tmp_path / "mlflow.sqlite"), cache=str(tmp_path / "cache")),
        rank=RankSettings(port=0, follow_s=0.05, items_s=0.02),
    )
    log = open_log(settings.log)
    log.create_topics(standard_topics())
    feed(log, [example(n) for n in range(40)])
    lanes = Lanes(log, dead_letters=lambda *_: None)
    learnt = lanes.end_state()
    lanes.close()

    # The distiller exports, sends and announces.
    student = make_student()
    bundle = student.export(
        tmp_path / "bundles" / "step-0000000001",
        provenance={"positions": {"lanes": msgspec.to_builtins(learnt)}},
        base_position=0,
        golden_requests=make_requests(student, 5),
    )
    registry = Registry(settings.registry.uri, settings.registry.name)
    announcer = Announcer(log, registry.put)
    announcer.begin("student", tmp_path / "none")
    announcer(bundle)
    announcer.close()
    assert not verified

    # The promoter waits, looking again and again, until there are enough examples; then it judges and promotes.
    counts: Counter[str] = Counter()
    stop = threading.Event()

    def promoter() -> None:
        verdict = partial(gate, asked=LENIENT)
        promote.run(log, registry, gate=verdict, min_lists=20, wait_s=0.02, teacher=None, stop=stop, counts=counts)

    thread = threading.Thread(target=promoter)
    thread.start()
    until(lambda: counts["waiting"] >= 3)
    feed(log, [example(n) for n in range(40, 80)])
    until(lambda: counts["promoted"] == 1)
    stop.set()
    thread.join(60)
    assert once(verified)

    # A ranker fetches the champion and serves it; a second one finds it in the cache.
    for _ in range(2):
        counts, stop = Counter(), threading.Event()
        ranker = threading.Thread(target=endpoint.serve, args=(settings, stop, counts))
        ranker.start()
        until(lambda counted=counts: counted["swaps"] == 1)  # type: ignore[misc]
        stop.set()
        ranker.join(60)
        assert once(verified)
    assert registry.resolve("champion").content_hash == bundle.content_hash
    log.close()


def until(true: Any) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "it did not happen in two minutes"
        time.sleep(0.02)

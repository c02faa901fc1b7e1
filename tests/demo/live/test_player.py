"""The player: a world in the time of the clock on the wall, in its order, with nothing early."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from recdistill.config import LogSettings
from recdistill.data.simulated import SimulatorSettings, simulate
from recdistill.demo.live.player import START_US, Clock, Play, play, prepare
from recdistill.features import FeatureSpec
from recdistill.records import TOPICS, Feedback, Impression, decode, encode
from recdistill.stream import open_log, standard_topics

WORLD = SimulatorSettings(kind="deep", items=60, users=30, impressions=120, days=20, shortest=8, longest=10, shift=0.5)


def test_all_is_written_when_its_time_has_come(tmp_path: Path) -> None:
    dataset, _ = simulate(WORLD, seed=1)
    clock = Clock(begin_us=1_000_000_000_000, seconds=100.0, days=20)
    now = [clock.begin_us]
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += round(seconds * 1e6)

    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    count = play(log, dataset.timeline(), clock, now_us=lambda: now[0], sleep=sleep)
    assert count == len(dataset.items) + 120 + len(dataset.feedback)
    assert sum(waits) == pytest.approx(100.0, abs=5.0)
    assert max(waits) <= 0.05
    source = log.source(["items", "impressions", "feedback"])
    found = Counter()
    clicks: dict[str, int] = {}
    shown: dict[str, Impression] = {}
    while messages := source.read(1000, 0.0):
        for message in messages:
            found[message.tp.topic] += 1
            record = decode(TOPICS[message.tp.topic], message.value)
            if isinstance(record, Impression):
                shown[record.id] = record
            elif isinstance(record, Feedback):
                clicks[record.impression_id] = record.time_us
    source.close()
    log.close()
    assert found == {"items": len(dataset.items), "impressions": 120, "feedback": len(dataset.feedback)}
    # 20 days in 100 seconds: 17,280 times as fast.
    for before in dataset.impressions:
        after = shown[before.id]
        assert after.time_us == pytest.approx(clock.begin_us + (before.time_us - START_US) / 17_280, abs=2)
        assert all(event.time_us <= after.time_us for event in after.history)
        same = msgspec.structs.replace(before, time_us=after.time_us, history=after.history)
        assert decode(Impression, encode(same)) == after
    assert all(0 <= at - shown[name].time_us < 100_000 for name, at in clicks.items())


def test_whoever_waits_for_the_specification_sees_all_of_it(tmp_path: Path) -> None:
    features, log = str(tmp_path / "features.toml"), LogSettings(path="-")
    dataset = prepare(Play(log=log, features=features, seconds=1, past_s=1, seed=1, world=WORLD))
    assert FeatureSpec.load(tmp_path / "features.toml") == dataset.spec

"""A student that is learnt again gives the same content: on the embedded log, on Kafka, and on MovieLens."""

from __future__ import annotations

import threading
import uuid
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support.shared import films_of_some_users
from support.small_shop import Shop, open_shop

from recdistill.bundle import made, open_bundle
from recdistill.config import DistilSettings, LogSettings, LossSettings, StudentSettings
from recdistill.data import Dataset, movielens
from recdistill.loops import join, score
from recdistill.loops.distil import replay
from recdistill.loops.feed import feed
from recdistill.loops.trainers import made_of
from recdistill.loops.wire import distil_from
from recdistill.records import Impression
from recdistill.stream import Log, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LISTS = 2_000


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    settings = None
    if request.param == "kafka":
        brokers = request.getfixturevalue("kafka_brokers")
        settings = LogSettings(kind="kafka", brokers=brokers, prefix=f"t{uuid.uuid4().hex[:8]}.")
    return open_shop(tmp_path, monkeypatch, capsys, settings)


def test_a_small_stream_is_learnt_again_as_it_was_typed(shop: Shop) -> None:
    """Two drained runs with lists between them, two lanes; the stream goes on behind the bundle."""
    shop.write(lists=60, lanes=2)
    shop("score --drain")
    shop("join --drain")
    shop("distil --drain")
    shop.write(lists=50, first=60, lanes=2)
    shop("score --drain")
    shop("join --drain")
    shop("distil --drain")
    bundle = shop.learnt("student")
    shop.write(lists=30, first=110, lanes=2)
    shop("score --drain")
    shop("join --drain")
    found = shop.figures("replay", str(bundle.path))
    assert found["same"] is True
    assert found["replayed"] == bundle.content_hash


def by_digest(impressions: Sequence[Impression]) -> list[list[float]]:
    """Scores of any items: a number that each item has, and a little of the place in the history."""
    return [
        [zlib.crc32(f"{candidate.item}/{len(one.history)}".encode()) / 2**32 for candidate in one.candidates]
        for one in impressions
    ]


def learnt(log: Log, place: Path, data: Dataset) -> str:
    """Streams the first lists of MovieLens in time order, and distils them. The content hash of the bundle."""
    lists = sorted(data.impressions, key=lambda one: one.time_us)[:LISTS]
    ids = {one.id for one in lists}
    clicks = [one for one in data.feedback if one.impression_id in ids]
    feed(log, [*data.items, *lists, *clicks])
    teacher = FunctionTeacher(by_digest, "digest", "1", "logit")
    score.run(log, teacher, batch=256, wait_s=0.05, stop=threading.Event(), drain=True)
    join.run(log, labels=data.labels, window_s=60, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    chosen = msgspec.convert({"directory": str(place), "threads": 1, "publish": False}, DistilSettings)
    distil_from(log, data.spec, StudentSettings(dim=16), LossSettings(), chosen, stop=threading.Event(), drain=True)
    return open_bundle(made(place / "bundles")[-1]).content_hash


def test_movielens_in_time_order_is_learnt_again(tmp_path: Path, shared_data: Path) -> None:
    data = movielens.load(films_of_some_users(shared_data, tmp_path / "films", 100), seed=3, candidates=20)
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    content_hash = learnt(log, tmp_path / "student", data)
    bundle = open_bundle(made(tmp_path / "student" / "bundles")[-1])
    found = replay(log, bundle, tmp_path / "again", partial(made_of, data.spec), stop=threading.Event())
    log.close()
    assert (found.same, found.replayed) == (True, content_hash)

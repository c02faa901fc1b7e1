"""Champions that cannot serve, the one before that stays warm, and the message that says `look now`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from support import spoilt
from support.serving import Shop, asked, running, wait_for

from recdistill.bundle import Bundle
from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings, TrialSettings
from recdistill.errors import StreamError
from recdistill.hops import Counts
from recdistill.loops import swap
from recdistill.loops.swap import Follower
from recdistill.records import Item, encode, key_of
from recdistill.registry import BundleRef
from recdistill.serve import Ranker, Recommender
from recdistill.stream import Log, open_log, say_look_now, standard_topics
from references.students import make_requests, make_student


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three of them with the same items and other weights."""
    place, made = tmp_path_factory.mktemp("bundles"), []
    for seed in range(3):
        student = make_student(seed=seed)
        made.append(student.export(place / str(seed), golden_requests=make_requests(student, 9), base_position=0))
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        registry=RegistrySettings(uri=f"sqlite:///{tmp_path}/mlflow.sqlite", cache=str(tmp_path / "cache")),
        rank=RankSettings(port=0, follow_s=0.05, items_s=0.02, drain_s=0),
        trial=TrialSettings(on=False),
    )


@pytest.fixture
def log(settings: Settings) -> Iterator[Log]:
    log = open_log(settings.log)
    log.create_topics(standard_topics())
    yield log
    log.close()


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr("recdistill.registry.Registry", lambda *_, **__: shop)
    return shop


def tuned(settings: Settings, **rank: Any) -> Settings:
    return msgspec.structs.replace(settings, rank=msgspec.structs.replace(settings.rank, **rank))


def metric(client: httpx.Client, name: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    return float(lines[f"recdistill_{name}"])


@pytest.mark.slow
def test_a_champion_that_never_ends_is_said_and_the_next_one_serves(
    settings: Settings, shop: Shop, bundles: list[Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process of its trial is ended; `/readyz`, the metrics and the log say it; and following goes on."""
    one, two, _ = bundles
    endless = spoilt.tower(two.user_tower, spoilt.without_end)
    bad = spoilt.resealed(two, tmp_path / "bad", {"user_tower.onnx": endless})
    settings = msgspec.structs.replace(settings, trial=TrialSettings(cpu_s=2))
    shop.promote("1", one)
    with running(settings) as (client, counts):
        wait_for(lambda: client.get("/readyz").status_code == 200, 60)
        assert client.get("/readyz").text == "ok\n"
        assert metric(client, "champion_refused") == 0
        shop.promote("2", bad)
        wait_for(lambda: counts["refused_bundles"] > 0, 120)
        ready = client.get("/readyz")
        assert ready.status_code == 200, "the champion before serves, so requests may come"
        assert f"the champion {bad.content_hash[:12]} is not served" in ready.text
        assert "did not end within 2 s of processor time" in ready.text
        assert metric(client, "champion_refused") == 1
        assert metric(client, "refused_bundles_total") == 1
        assert asked(client) == ("1", one.content_hash)
        shop.promote("3", two)
        wait_for(lambda: asked(client) == ("3", two.content_hash), 60)
        wait_for(lambda: client.get("/readyz").text == "ok\n")
        assert metric(client, "champion_refused") == 0
        assert metric(client, "look_age_seconds") < 60
    assert "did not end within 2 s" in caplog.text


@pytest.mark.slow
def test_a_rollback_does_not_wait_for_a_trial(
    settings: Settings, shop: Shop, bundles: list[Bundle], tmp_path: Path
) -> None:
    """The alias moves back to the champion that serves, and on to a third one, while the trial of a bad one runs."""
    one, two, three = bundles
    bad = spoilt.resealed(two, tmp_path / "bad", {"user_tower.onnx": spoilt.tower(two.user_tower, spoilt.without_end)})
    settings = msgspec.structs.replace(settings, trial=TrialSettings(cpu_s=3600))
    shop.promote("1", one)
    with running(settings) as (client, counts):
        wait_for(lambda: client.get("/readyz").status_code == 200, 60)
        shop.promote("2", bad)
        wait_for(lambda: bad.content_hash in shop.fetched)
        shop.promote("3", three)
        wait_for(lambda: asked(client) == ("3", three.content_hash), 60)
        assert counts["refused_bundles"] == 0


@pytest.mark.slow
def test_a_process_without_a_champion_says_why(
    settings: Settings, shop: Shop, bundles: list[Bundle], tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, trial=TrialSettings())
    nan = spoilt.tower(bundles[0].item_tower, spoilt.not_a_number)
    shop.promote("1", spoilt.resealed(bundles[0], tmp_path / "bad", {"item_tower.onnx": nan}))
    with running(settings) as (client, counts):
        wait_for(lambda: counts["refused_bundles"] > 0, 60)
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "not finite" in ready.json()["detail"]


@pytest.mark.slow
def test_the_champion_before_stays_warm_and_knows_what_has_changed(
    settings: Settings, shop: Shop, log: Log, bundles: list[Bundle]
) -> None:
    one, two, _ = bundles
    shop.promote("1", one)
    with running(settings) as (client, counts):
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        shop.promote("2", two)
        wait_for(lambda: asked(client) == ("2", two.content_hash))
        assert shop.fetched == [one.content_hash, two.content_hash]
        stage = log.stage("test")
        with stage.transaction() as transaction:
            for item in (
                Item("new", version=1, attributes={"genres": ["g1"]}),
                Item("item-9", version=9, withdrawn=True),
            ):
                transaction.send("items", encode(item), key=key_of(item))
        stage.close()
        shop.promote("1", one)
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        assert counts["warm_swaps"] == 1
        assert shop.fetched == [one.content_hash, two.content_hash], "nothing was fetched again"
        answer = client.post("/v1/recommend", json={"allow": ["new", "item-9"]}).json()
        assert answer["items"] == ["new"]
        shop.promote("2", two)  # and there is the other one, still
        wait_for(lambda: asked(client) == ("2", two.content_hash))
        assert counts["warm_swaps"] == 2


def test_a_process_that_starts_opens_the_champion_before_too(
    settings: Settings, shop: Shop, bundles: list[Bundle]
) -> None:
    one, two, _ = bundles
    shop.promote("2", two)
    shop.previous = shop.ref("1", one)
    with running(settings) as (client, counts):
        wait_for(lambda: shop.fetched == [two.content_hash, one.content_hash])
        looks = shop.looks
        wait_for(lambda: shop.looks > looks + 1)
        shop.promote("1", one)
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        assert counts["warm_swaps"] == 1


@pytest.mark.parametrize("warm_mb", [0, 1024])
def test_what_is_too_large_does_not_stay_open(
    settings: Settings, shop: Shop, bundles: list[Bundle], warm_mb: int
) -> None:
    one, two, _ = bundles
    shop.promote("1", one)
    with running(tuned(settings, warm_mb=warm_mb)) as (client, counts):
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        shop.promote("2", two)
        wait_for(lambda: asked(client) == ("2", two.content_hash))
        shop.promote("1", one)
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        assert counts["warm_swaps"] == (1 if warm_mb else 0)


@pytest.mark.parametrize("said", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_message_makes_rankers_look_at_once(
    settings: Settings, shop: Shop, log: Log, bundles: list[Bundle], said: bool
) -> None:
    """The alias would be looked at in an hour only."""
    one, two, _ = bundles
    shop.promote("1", one)
    with running(tuned(settings, follow_s=3600.0)) as (client, _):
        wait_for(lambda: asked(client) == ("1", one.content_hash))
        wait_for(lambda: shop.looks >= 2)  # the listener wakes it when it begins to listen
        shop.promote("2", two)
        before = shop.looks
        if said:
            assert say_look_now(log, "test")
            wait_for(lambda: asked(client) == ("2", two.content_hash))
        else:
            time.sleep(1.5)
            assert (asked(client)[0], shop.looks) == ("1", before)


def test_two_who_say_it_at_once_are_both_heard(log: Log) -> None:
    with closing(log.source(["look-now"])) as source:
        assert [say_look_now(log, f"process {n}") for n in range(3)] == [True] * 3
        assert len(source.read()) == 3


def test_a_log_of_an_older_version_has_no_such_topic(settings: Settings) -> None:
    log = open_log(settings.log)
    topics = standard_topics()
    del topics["look-now"]
    log.create_topics(topics)
    assert not say_look_now(log, "test")
    log.close()


def test_a_warm_catalogue_that_stands_still_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log is away for hours, and the alias is looked at every two seconds."""

    class Away:
        gone = True

        def catch_up(self, _recommender: Any) -> bool:
            if self.gone:
                raise StreamError("the broker does not answer")
            return True

        def close(self) -> None:
            """Nothing was opened."""

    serving, warm = (SimpleNamespace(content_hash=digit * 64, position=1, live=1) for digit in "ab")
    ranker, items = Ranker(), Away()
    ranker.swap(serving, "2")  # type: ignore[arg-type]
    ref = SimpleNamespace(content_hash="a" * 64, number="2")
    champion: Any = SimpleNamespace(name="student", look=lambda: ref, find=lambda _: None)
    follower = swap.Follower(champion, ranker, items, lambda bundle: None, warm_bytes=1)  # type: ignore[arg-type,return-value]
    follower._serving = swap.Opened(serving, "2", 1)  # type: ignore[arg-type]
    follower._warm = swap.Opened(warm, "1", 1)  # type: ignore[arg-type]
    for gone in (True, True, True, False, True, True):
        items.gone = gone
        follower.look()
    assert [one.getMessage() for one in caplog.records] == 2 * [
        "the one before is not kept ready for a rollback: the broker does not answer"
    ]


@pytest.mark.parametrize("event_us", ["yesterday", None, 10**30, -(10**30), [7]])
def test_a_bundle_that_says_nonsense_of_its_newest_event_serves(tmp_path: Path, event_us: object) -> None:
    """The provenance of a bundle is foreign text. Once the switch is made, nothing of it may undo that."""
    bundle = make_student().export(tmp_path / "bundle", provenance={"event_us": event_us})
    ref = BundleRef(number="7", content_hash=bundle.content_hash, uri="")
    took: list[Bundle] = []
    champion: Any = SimpleNamespace(name="shop", look=lambda: ref, fetch=lambda _: bundle, took=took.append)
    swapped: list[str] = []
    ranker: Any = SimpleNamespace(
        counts=Counts(), champion=None, notes={}, swap=lambda _, number: swapped.append(number), looked=0.0, warm=False
    )
    items: Any = SimpleNamespace(catch_up=lambda _: False, close=lambda: None)
    Follower(champion, ranker, items, Recommender).look()
    assert (swapped, took, ranker.notes) == (["7"], [bundle], {})
    assert ranker.counts["refused_bundles"] == 0
    assert "served" not in ranker.counts.hops

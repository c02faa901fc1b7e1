"""The ranker as it runs: following `items` and the champion, with bad bundles, and with log or registry away."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
import pytest
from support.serving import running, wait_for

from recdistill.bundle import Bundle, open_bundle
from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings, TrialSettings, to_toml
from recdistill.errors import BundleError, ConfigError, RegistryError, StreamError
from recdistill.loops import rank, swap
from recdistill.loops.follow import OtherLog
from recdistill.loops.one_log import OneLog
from recdistill.records import Event, Impression, Item, decode, encode, key_of
from recdistill.registry import BundleRef
from recdistill.serve import Filters, Recommender, Request
from recdistill.serve.http.app import Ranker
from recdistill.stream import ITEMS, LanePosition, Log, LogIdentity, open_log, standard_topics
from references.students import NOW_US, Student, make_requests, make_student
from tools import processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three of them with the same items and other weights."""
    place = tmp_path_factory.mktemp("bundles")
    made = []
    for seed in range(3):
        student = make_student(seed=seed)
        made.append(
            student.export(
                place / str(seed),
                golden_requests=make_requests(student, 20),
                popular=[(f"item-{i}", 60.0 - i) for i in range(6)],
                base_position=0,
            )
        )
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        log=LogSettings(path=str(tmp_path / "log.sqlite")),
        registry=RegistrySettings(uri=f"sqlite:///{tmp_path}/mlflow.sqlite", cache=str(tmp_path / "cache")),
        rank=RankSettings(port=0, follow_s=0.05, items_s=0.02, drain_s=0),
        trial=TrialSettings(on=False),  # a process for each bundle; tests/loops/test_swap.py has it on
    )


@pytest.fixture
def log(settings: Settings) -> Iterator[Log]:
    log = open_log(settings.log)
    log.create_topics(standard_topics())
    yield log
    log.close()


def write(log: Log, *values: Item | bytes) -> None:
    stage = log.stage("test")
    with stage.transaction() as transaction:
        for value in values:
            raw = value if isinstance(value, bytes) else encode(value)
            transaction.send("items", raw, key=b"x" if isinstance(value, bytes) else key_of(value))
    stage.close()


def served(client: httpx.Client) -> str:
    return str(client.get("/v1/model").json().get("bundle", ""))


# The catalogue


def test_items_are_taken_in_live(settings: Settings, log: Log, bundles: list[Bundle]) -> None:
    write(log, Item("early", version=1, attributes={"genres": ["g1"]}))
    with running(settings, bundle=bundles[0].path) as (client, counts):

        def among(item: str) -> bool:
            body = {"history": [{"item": "item-3"}], "allow": [item]}
            return bool(client.post("/v1/recommend", json=body).json()["items"])

        assert among("early")  # before the first answer: the overlay stands at the end when it starts to serve
        assert among("item-9")
        assert not among("fresh")
        write(log, b"\x00nonsense", Item("fresh", version=1, attributes={"genres": ["g2"]}), b'{"id": 3}')
        wait_for(lambda: among("fresh"))
        write(log, Item("fresh", version=2, withdrawn=True), Item("item-9", version=9, withdrawn=True))
        wait_for(lambda: not among("fresh"))
        assert not among("item-9")
        write(log, Item("odd", version=1, attributes={"year": "not a number"}))
        wait_for(lambda: counts["bad_items"] == 3)
        model = client.get("/v1/model").json()
        assert model["overlay"] == log.source(["items"]).bounds(ITEMS)[1]
        assert 0 <= model["items_age_s"] < 5
        assert counts["items"] == 5
        assert "recdistill_bad_items_total 3.0" in client.get("/metrics").text


@pytest.mark.slow
def test_a_withdrawn_item_is_in_no_answer_again_also_after_restarts(
    settings: Settings, log: Log, bundles: list[Bundle]
) -> None:
    """The bundle holds it, and it stands in the popular items, in histories and in what is asked for by name."""
    gone = [bundles[0].popular[0][0] if bundles[0].popular else "item-9", "item-9", "fresh"]

    def shown(client: httpx.Client) -> set[str]:
        bodies = [{"k": 50}, {"history": [{"item": gone[0]}], "repeat": True, "k": 50}, {"allow": gone}]
        answers = [client.post("/v1/recommend", json=body).json() for body in bodies]
        answers.append(client.post("/v1/rank", json={"candidates": [*gone, "item-3"]}).json())
        answers.append(client.post("/v1/similar", json={"item": "item-3", "k": 50}).json())
        return {item for answer in answers for item in answer["items"]}

    write(log, Item("fresh", version=1, attributes={"genres": ["g1"]}))
    with running(settings, bundle=bundles[0].path) as (client, _):
        assert set(gone) <= shown(client)
        write(log, *[Item(item, version=5, withdrawn=True) for item in gone])
        end = log.source(["items"]).bounds(ITEMS)[1]
        wait_for(lambda: client.get("/v1/model").json()["overlay"] == end)
        assert not set(gone) & shown(client)
        # An older record that comes late brings nothing back.
        write(log, *[Item(item, version=4, attributes={"genres": ["g2"]}) for item in gone])
        wait_for(lambda: client.get("/v1/model").json()["overlay"] > end)
        assert not set(gone) & shown(client)
    for bundle in (bundles[0], bundles[1], bundles[0]):  # another one that holds them serves after a restart
        with running(settings, bundle=bundle.path) as (client, _):
            assert not set(gone) & shown(client), "not even in the first answers"


@pytest.mark.parametrize("base", [1_000_000, 3])
def test_a_base_position_that_the_log_does_not_hold(settings: Settings, log: Log, base: int, tmp_path: Path) -> None:
    bundle = make_student().export(tmp_path / "b", base_position=base, golden_requests=[])
    write(log, *[Item(f"new-{n}", version=1) for n in range(6)])
    with running(settings, bundle=bundle.path) as (client, _):
        body = {"allow": [f"new-{n}" for n in range(6)]}
        found = set(client.post("/v1/recommend", json=body).json()["items"])
    assert found == {f"new-{n}" for n in range(0 if base > 100 else base, 6)}


def test_a_log_that_comes_later(settings: Settings, bundles: list[Bundle]) -> None:
    with running(settings, bundle=bundles[0].path) as (client, _):
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/model").json()["items_age_s"] is None
        assert not Path(settings.log.path).exists()
        log = open_log(settings.log)
        log.create_topics(standard_topics())
        write(log, Item("late", version=1))
        wait_for(lambda: client.post("/v1/recommend", json={"allow": ["late"]}).json()["items"] == ["late"])
        log.close()


def test_a_log_that_fails(settings: Settings, log: Log, bundles: list[Bundle]) -> None:
    away = [True]

    def read_log() -> Log:
        if away:
            raise StreamError("no broker answers")
        return open_log(settings.log)

    ranker = Ranker()
    items = rank._Items(OneLog(read_log), ranker, threading.Event(), OtherLog())
    ranker.swap(rank.load(bundles[0], 1, items, ranker))  # better its own catalogue than none
    assert ranker.counts["log_failures"] == 1
    with pytest.raises(StreamError):  # but never one that may be older than what serves
        rank.load(bundles[1], 1, items, ranker)
    away.clear()
    write(log, Item("new", version=1))
    assert rank.load(bundles[1], 1, items, ranker).position == 2
    items.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("items_from", "expected"), [("", set()), ("beginning", {"early", "late"}), ("latest", {"late"})]
)
def test_a_bundle_of_another_log_is_not_followed_unless_somebody_says_how(
    settings: Settings,
    log: Log,
    student: Student,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    items_from: Literal["", "beginning", "latest"],
    expected: set[str],
) -> None:
    """Its catalogue stands at offset 2 of a log that is not here; in this one, offset 2 is in the middle."""
    lanes = LanePosition(LogIdentity("the-log-of-yesterday", {"examples": 1}), (5,), 0)
    provenance = {"positions": {"lanes": msgspec.to_builtins(lanes), "items": 2}}
    bundle = student.export(tmp_path / "other", base_position=2, provenance=provenance)
    for n in range(3):
        write(log, Item(f"junk-{n}", version=1, withdrawn=True))
    write(log, Item("early", version=1, attributes={"genres": ["g1"]}))
    chosen = msgspec.structs.replace(settings, rank=msgspec.structs.replace(settings.rank, items_from=items_from))
    with running(chosen, bundle=bundle.path) as (client, counts):

        def among(item: str) -> bool:
            body = {"history": [{"item": "item-3"}], "allow": [item]}
            return bool(client.post("/v1/recommend", json=body).json()["items"])

        assert among("item-9")  # what it holds is served in any case
        write(log, Item("late", version=1, attributes={"genres": ["g2"]}))
        if expected:
            wait_for(lambda: among("late"))
        else:
            wait_for(lambda: counts["log_failures"] > 2)
        assert {item for item in ("early", "late") if among(item)} == expected
        assert client.get("/readyz").status_code == 200
    said = [record.getMessage() for record in caplog.records if "the-log-of-yesterday" in record.getMessage()]
    assert bool(said) == (not expected)
    assert all("rank.items_from" in line for line in said)
    assert len(said) <= 2  # once when it is opened, once when it is followed


# The champion


class Shop:
    """A registry in memory, as the ranker sees one."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path, self.away = tmp_path, False
        self.champion: BundleRef | None = None
        self.previous: BundleRef | None = None
        self.canary: BundleRef | None = None
        self.folders: dict[str, Path] = {}
        self.fetched: list[str] = []

    def promote(self, number: str, bundle: Path, content_hash: str) -> None:
        self.folders[content_hash] = bundle
        self.champion = BundleRef(number=number, content_hash=content_hash, uri="")

    def find(self, alias: str) -> BundleRef | None:
        if self.away:
            raise RegistryError("the server does not answer")
        return {"champion": self.champion, "previous": self.previous, "canary": self.canary}[alias]

    def fetch(self, ref: BundleRef, into: Path) -> Bundle:
        self.fetched.append(ref.content_hash)
        return open_bundle(self.folders[ref.content_hash])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path)
    monkeypatch.setattr("recdistill.registry.Registry", lambda *_, **__: shop)
    return shop


def test_how_old_an_event_is_when_a_champion_with_it_serves(
    settings: Settings, shop: Shop, log: Log, student: Student, tmp_path: Path
) -> None:
    event_us = time.time_ns() // 1000 - 1_000_000_000
    bundle = student.export(tmp_path / "planted", base_position=0, provenance={"event_us": event_us})
    with running(settings) as (client, _):
        assert "freshness" not in client.get("/metrics").text
        shop.promote("1", bundle.path, bundle.content_hash)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        wait_for(lambda: "recdistill_freshness_seconds_sum" in client.get("/metrics").text)
        now_us = time.time_ns() // 1000
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    took_s = float(lines['recdistill_freshness_seconds_sum{hop="served"}'])
    assert took_s == pytest.approx((now_us - event_us) / 1e6, abs=16.0)
    at_s = float(lines['recdistill_passed_at_seconds{hop="served"}'])
    assert took_s == pytest.approx(at_s - event_us / 1e6, abs=1.0)
    assert float(lines['recdistill_newest_event_seconds{hop="served"}']) == pytest.approx(event_us / 1e6, abs=1.0)


def spoilt(bundle: Bundle, place: Path) -> Path:
    shutil.copytree(bundle.path, place)
    raw = bytearray((place / "vectors.npy").read_bytes())
    raw[-5] ^= 1
    (place / "vectors.npy").write_bytes(raw)
    return place


@pytest.mark.slow
def test_the_champion_is_followed(
    settings: Settings, shop: Shop, log: Log, bundles: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "LATER_S", (0.2, 0.4))
    one, two, three = bundles
    write(log, Item("fresh", version=1, attributes={"genres": ["g2"]}))
    with running(settings) as (client, counts):
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        shop.promote("1", one.path, one.content_hash)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert (served(client), client.get("/v1/model").json()["version"]) == (one.content_hash, "1")
        assert client.post("/v1/recommend", json={"allow": ["fresh"]}).json()["items"] == ["fresh"]

        shop.promote("2", spoilt(two, tmp_path / "spoilt"), two.content_hash)
        wait_for(lambda: counts["refused_bundles"] >= 3)  # it is tried again, but not at every look
        assert served(client) == one.content_hash
        assert client.get("/readyz").status_code == 200
        looks = len(shop.fetched)
        time.sleep(0.5)
        assert len(shop.fetched) - looks <= 3

        shop.away = True
        shop.promote("3", three.path, three.content_hash)
        wait_for(lambda: counts["registry_failures"] >= 2)
        assert served(client) == one.content_hash

        shop.away = False
        wait_for(lambda: served(client) == three.content_hash)
        assert client.post("/v1/recommend", json={"allow": ["fresh"]}).json()["items"] == ["fresh"]
        shop.promote("1", one.path, one.content_hash)
        wait_for(lambda: served(client) == one.content_hash)
        assert counts["swaps"] == 3
        shop.champion = None  # an alias that is gone takes nothing away
        time.sleep(0.2)
        assert served(client) == one.content_hash


def test_a_bundle_whose_golden_answers_are_wrong(
    settings: Settings, shop: Shop, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = rank.Recommender.check_golden

    def check(self: Any) -> None:
        if self.content_hash == bundles[1].content_hash:
            raise BundleError("golden request 0 gives other scores on this machine")
        inner(self)

    monkeypatch.setattr(rank.Recommender, "check_golden", check)
    shop.promote("1", bundles[0].path, bundles[0].content_hash)
    with running(settings) as (client, counts):
        wait_for(lambda: client.get("/readyz").status_code == 200)
        shop.promote("2", bundles[1].path, bundles[1].content_hash)
        wait_for(lambda: counts["refused_bundles"] == 1)
        assert served(client) == bundles[0].content_hash


def test_an_error_nobody_thought_of_does_not_end_the_following(
    settings: Settings, shop: Shop, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "LATER_S", (0.1, 0.1))
    fetch, broken = shop.fetch, [True]

    def breaking(ref: BundleRef, into: Path) -> Bundle:
        if broken:
            broken.pop()
            raise OSError("no space left on device")
        return fetch(ref, into)

    shop.fetch = breaking  # type: ignore[method-assign]
    shop.promote("1", bundles[0].path, bundles[0].content_hash)
    with running(settings) as (client, counts):
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert counts["refused_bundles"] == 1


def test_a_folder_that_is_no_bundle_ends_the_start(settings: Settings, bundles: list[Bundle], tmp_path: Path) -> None:
    with pytest.raises(BundleError), running(settings, bundle=spoilt(bundles[0], tmp_path / "spoilt")):
        pass
    settings = Settings(rank=RankSettings(host="no.such.host.invalid"), log=settings.log)
    with pytest.raises(ConfigError), running(settings, bundle=bundles[0].path):
        pass


# Writing back


@pytest.mark.slow
def test_answers_come_back_as_impressions(settings: Settings, log: Log, bundles: list[Bundle]) -> None:
    settings = Settings(log=settings.log, rank=RankSettings(port=0, write_back=1.0, drain_s=0))
    with running(settings, bundle=bundles[0].path) as (client, counts):
        history = [{"item": "item-3", "time_us": NOW_US - 5, "action": "click"}]
        body = {"history": history, "context": {"hour": 3.0}, "time_us": NOW_US, "exclude": ["item-1"], "k": 4}
        answers = [client.post("/v1/recommend", json=body).json() for _ in range(20)]
        ranked = client.post("/v1/rank", json={"candidates": ["item-2", "item-3"]}).json()
        # A rule that only records have: the answer is given, its note is not.
        odd = client.post("/v1/recommend", json={"exclude": ["x" * 600]}).json()
        assert len(odd["items"]) == 10
    assert (counts["impressions_written"], counts["impressions_dropped"]) == (21, 1)
    written = [decode(Impression, message.value) for message in log.source(["impressions"]).read(100)]
    assert [one.id for one in written] == [answer["impression"] for answer in [*answers, ranked]]
    one, answer = written[0], answers[0]
    assert [candidate.item for candidate in one.candidates] == answer["items"]
    assert [candidate.logged_score for candidate in one.candidates] == pytest.approx(answer["scores"], rel=1e-6)
    assert (one.origin, one.served_by, one.time_us) == ("served", bundles[0].content_hash, NOW_US)
    assert (one.history, one.context, one.exclude) == (
        (Event("item-3", NOW_US - 5, "click"),),
        {"hour": 3.0},
        ("item-1",),
    )


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.slow
def test_a_log_that_is_removed_under_the_ranker(
    settings: Settings, log: Log, bundles: list[Bundle], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on answering; but `/readyz`, the log and the counts say it, and no impression vanishes in silence."""
    chosen = msgspec.structs.replace(settings.rank, write_back=1.0)
    log.close()
    with running(Settings(log=settings.log, rank=chosen), bundle=bundles[0].path) as (client, counts):
        assert "impression" in client.post("/v1/recommend", json={}).json()
        wait_for(lambda: counts["impressions_written"] == 1)
        for part in Path(settings.log.path).parent.glob("log.sqlite*"):
            part.unlink()
        if how == "replaced":
            other = open_log(settings.log)
            other.create_topics(standard_topics())
            other.close()
        wait_for(lambda: client.get("/readyz").status_code == 503)
        assert "catalogue stands still" in client.get("/readyz").json()["detail"]
        client.post("/v1/recommend", json={})  # the writer finds it out, if it had nothing to write until now
        wait_for(lambda: "not written back" in client.get("/readyz").json()["detail"])
        answer = client.post("/v1/recommend", json={})
        assert answer.status_code == 200
        assert "impression" not in answer.json()
        assert counts["impressions_written"] == 1
        assert counts["impressions_dropped"] == 2
        assert counts["log_failures"] >= 2
        assert "recdistill_ready 0.0" in client.get("/metrics").text
    assert "the catalogue stands still" in caplog.text
    assert "answers are not written back" in caplog.text


def test_a_thread_that_ends_is_said_at_readyz(
    settings: Settings,
    log: Log,
    bundles: list[Bundle],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("timestamp too large")

    monkeypatch.setattr(rank, "_follow_items", fails)
    with running(settings, bundle=bundles[0].path) as (client, counts):
        wait_for(lambda: client.get("/readyz").status_code == 503)
        assert "the thread 'items' of this process has ended" in client.get("/readyz").json()["detail"]
        assert client.post("/v1/recommend", json={}).status_code == 200
        assert counts["ended_threads"] == 1
    assert "the thread 'items' has ended" in caplog.text


# The process


@pytest.mark.mlflow
@pytest.mark.slow
def test_the_process_follows_a_real_registry_without_torch(
    settings: Settings, log: Log, bundles: list[Bundle], tmp_path: Path
) -> None:
    from recdistill.registry import Evidence, Registry

    registry = Registry(settings.registry.uri, settings.registry.name)
    numbers = []
    for bundle in bundles[:2]:
        evidence = Evidence(
            content_hash=bundle.content_hash, passed=True, reasons=[], metrics={}, made_at="2026-01-01", judged=500
        )
        numbers.append(registry.publish(bundle, evidence).number)
    registry.crown(numbers[0])
    (port,) = processes.free_ports(1)
    file = tmp_path / "settings.toml"
    plain = msgspec.to_builtins(settings)
    plain["rank"] |= {"port": port, "follow_s": 0.2}
    file.write_text(to_toml(plain))
    output = tmp_path / "ranker.log"
    environment = {
        "RECDISTILL_CONFIG": str(file),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    process = processes.spawn([sys.executable, "-m", "services.ranker"], log=output, env=environment)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:

        def ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        processes.wait_until(ready, process, what="the ranker", log=output, patience_s=90)
        assert served(client) == bundles[0].content_hash
        registry.crown(numbers[1], previous=numbers[0])
        wait_for(lambda: served(client) == bundles[1].content_hash, 30)
        assert len(client.post("/v1/recommend", json={"history": [{"item": "item-3"}]}).json()["items"]) == 10
        mapped = Path(f"/proc/{process.pid}/maps")
        if mapped.exists():  # every library that the process has loaded
            names = mapped.read_text()
            assert "onnxruntime" in names
            assert "torch" not in names
    processes.signal_group(process, signal.SIGTERM)
    assert process.wait(30) == 0
    assert processes.kill(process) == 0
    assert '"level": "error"' not in output.read_text()


def test_what_is_withdrawn_while_a_bundle_is_checked_does_not_come_back(
    settings: Settings, log: Log, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves reads the withdrawal meanwhile. The next bundle must not answer with that item when it takes over."""
    ranker, check = Ranker(), Recommender.check_golden
    ranker.swap(Recommender(bundles[0]), "1")
    items = rank._Items(OneLog(lambda: open_log(settings.log)), ranker, threading.Event(), OtherLog())

    def meanwhile(recommender: Recommender) -> None:
        check(recommender)
        write(log, Item("item-9", version=9, withdrawn=True))

    monkeypatch.setattr(Recommender, "check_golden", meanwhile)
    found = rank.load(bundles[1], 1, items, ranker)
    items.close()
    assert found.recommend([Request()], 5, Filters(allow=frozenset(["item-9"])))[0].items == []

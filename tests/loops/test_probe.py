"""The prober: the student's own top items, each impression's once, and what the joiner makes of their silence."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recdistill.budget.chances import unit
from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import RegistryError
from recdistill.loops import join, probe, score
from recdistill.loops.feed import feed
from recdistill.loops.follow import Champion
from recdistill.records import MAX_ID, Candidate, Event, Example, Feedback, Impression, Item, decode
from recdistill.registry import BundleRef
from recdistill.serve import Filters, Recommender, Request
from recdistill.stream import Log, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher
from references.students import NOW_US, make_student


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    place = tmp_path_factory.mktemp("bundles")
    return [make_student(seed=seed).export(place / str(seed), base_position=0) for seed in range(2)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=2))
    yield log
    log.close()


def asked(n: int) -> Impression:
    history = tuple(Event(f"item-{i}", NOW_US - 1000 * (9 - i), "click") for i in range(n % 5, 7))
    candidates = tuple(Candidate(f"item-{i}") for i in range(20, 26))
    return Impression(
        f"r{n}", NOW_US + n, f"u{n % 3}", history, {"device": "phone"}, candidates, (f"item-{30 + n % 9}",)
    )


def impressions(log: Log, topic: str = "impressions") -> list[Impression]:
    source = log.source([topic])
    found = []
    while some := source.read(1000, 0.0):
        found += [decode(Impression, message.value) for message in some]
    source.close()
    return found


def run(log: Log, bundle: Bundle | None, *, stop: threading.Event | None = None, **settings: float) -> Counter[str]:
    chosen: Any = {"share": 0.5, "k": 8, "per_s": 1e6, "wait_s": 0.05, **settings}
    asked = Champion("shop", Releases, Path("unused")) if bundle is None else Recommender(bundle)  # type: ignore[arg-type]
    return probe.run(log, asked, **chosen, stop=stop or threading.Event(), drain=True)


def test_a_share_is_probed_with_what_the_student_would_show(log: Log, bundles: list[Bundle]) -> None:
    lists = [asked(n) for n in range(200)]
    feed(log, lists)
    counts = run(log, bundles[0])
    found = {one.id: one for one in impressions(log)}
    probes = {name: one for name, one in found.items() if name.endswith(".probe")}
    assert set(probes) == {f"{one.id}.probe" for one in lists if unit("probe", one.id) < 0.5}
    assert counts["probes"] == len(probes)
    assert 70 < len(probes) < 130
    recommender = Recommender(bundles[0])
    for one in lists[:40]:
        if f"{one.id}.probe" not in probes:
            continue
        made = probes[f"{one.id}.probe"]
        request = Request(one.history, one.context, one.exclude, one.time_us)
        [answer] = recommender.recommend([request], 8, Filters(exclude=frozenset(e.item for e in one.history)))
        assert [c.item for c in made.candidates] == answer.items
        assert [c.logged_score for c in made.candidates] == pytest.approx(answer.scores)
        assert (made.origin, made.served_by) == ("student", bundles[0].content_hash)
        assert (made.history, made.context, made.time_us, made.user) == (
            one.history,
            one.context,
            one.time_us,
            one.user,
        )
        shown = {c.item for c in made.candidates}
        assert not shown & {event.item for event in one.history}
        assert not shown & set(one.exclude)


def test_each_once_and_never_a_probe_of_a_probe(log: Log, bundles: list[Bundle]) -> None:
    lists = [asked(n) for n in range(60)]
    feed(log, lists[:40])
    first = run(log, bundles[0], share=1.0)
    assert first["probes"] == 40
    again = run(log, bundles[0], share=1.0)  # passes its own probes
    assert (again["probes"], again["impressions"]) == (0, 40)
    feed(log, [msgspec.structs.replace(one, origin="student") for one in lists[40:50]])
    feed(log, lists[50:])
    stop = threading.Event()
    stop.set()
    assert run(log, bundles[0], share=1.0, stop=stop)["impressions"] == 0
    assert run(log, bundles[1], share=1.0)["probes"] == 10
    ids = Counter(one.id for one in impressions(log))
    assert max(ids.values()) == 1
    assert len(ids) == 60 + 50


def test_a_crash_before_the_commit_leaves_nothing(
    log: Log, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(log, [asked(n) for n in range(30)])
    real = probe.encode

    def breaks(record: Impression) -> bytes:
        if record.id == "r20.probe":
            raise KeyboardInterrupt
        return real(record)

    monkeypatch.setattr(probe, "encode", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(log, bundles[0], share=1.0, batch=64)
    assert len(impressions(log)) == 30
    monkeypatch.setattr(probe, "encode", real)
    assert run(log, bundles[0], share=1.0)["probes"] == 30


@pytest.mark.slow
def test_who_the_student_knows_nothing_of_is_not_probed_and_the_rate_is_kept(log: Log, bundles: list[Bundle]) -> None:
    nobody = msgspec.structs.replace(asked(0), id="nobody", history=(), context={})
    odd = msgspec.structs.replace(asked(0), id="odd", context={"hour": "noon"})
    feed(log, [nobody, odd, *[asked(n) for n in range(10)]])
    began = time.monotonic()
    counts = run(log, bundles[0], share=1.0, per_s=20.0)
    assert time.monotonic() - began > 0.45
    # Without a popular list in the bundle, even nobody gets the student's own order.
    assert counts["probes"] + counts["impersonal"] == 11
    assert counts["refused"] == 1


def test_a_long_id_still_gives_one_that_fits() -> None:
    name = "x" * MAX_ID
    made = probe.probe_of(msgspec.structs.replace(asked(1), id=name), ["a"], [0.5], "hash")
    assert len(made.id) <= MAX_ID
    assert made.id == probe.probe_of(msgspec.structs.replace(asked(2), id=name), ["a"], [0.5], "hash").id
    assert made.id != probe.probe_of(msgspec.structs.replace(asked(1), id=name[1:]), ["a"], [0.5], "hash").id


class Releases:
    """A registry with one champion, that can be away."""

    champion: Bundle | None = None
    away = False

    def find(self, alias: str) -> BundleRef | None:
        if Releases.away:
            raise RegistryError("away")
        if Releases.champion is None:
            return None
        return msgspec.convert(
            {"name": "s", "number": "1", "content_hash": Releases.champion.content_hash, "uri": ""}, BundleRef
        )

    def fetch(self, ref: BundleRef, cache: Path) -> Bundle:
        assert Releases.champion is not None
        return Releases.champion


def test_the_champion_is_followed(log: Log, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Releases, "champion", None)
    feed(log, [Item("fresh", 1, attributes={"genres": ["g1"]}), *[asked(n) for n in range(5)]])
    with pytest.raises(RegistryError, match="'shop' has no champion to ask"):
        run(log, None, share=1.0)
    for bundle in bundles:
        monkeypatch.setattr(Releases, "champion", bundle)
        feed(log, [asked(n) for n in range(100, 103)] if bundle is bundles[1] else [])
        counts = run(log, None, share=1.0, k=60)
        assert counts["swaps"] == 1
    served = {one.id: one.served_by for one in impressions(log) if one.origin == "student"}
    assert {served[f"r{n}.probe"] for n in range(5)} == {bundles[0].content_hash}
    assert {served[f"r{n}.probe"] for n in range(100, 103)} == {bundles[1].content_hash}
    # An item that came after the bundle was cut is asked about too.
    assert any(c.item == "fresh" for one in impressions(log) for c in one.candidates)
    monkeypatch.setattr(Releases, "away", True)
    feed(log, [asked(200)])
    with pytest.raises(RegistryError, match="away"):  # it may have one, so nobody is told to promote one
        run(log, None)


def test_a_registry_that_is_down_for_ten_minutes_costs_no_probe_and_is_one_sentence(
    log: Log, bundles: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten minutes are 120 looks of five seconds. It is down when the prober starts, and once more later."""
    monkeypatch.setattr(Releases, "champion", bundles[0])
    monkeypatch.setattr(Releases, "away", True)
    feed(log, [asked(n) for n in range(5)])
    stop, counts = threading.Event(), Counter[str]()
    champion = Champion("shop", Releases, Path("unused"))  # type: ignore[arg-type]
    settings: Any = {"share": 1.0, "k": 8, "per_s": 1e6, "wait_s": 0.005, "follow_s": 0.002}

    def serve() -> None:
        with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as own:
            probe.run(own, champion, **settings, stop=stop, counts=counts)

    service = threading.Thread(target=serve)
    service.start()
    try:
        until(lambda: counts["registry_failures"] >= 120)
        assert counts["probes"] == 0
        monkeypatch.setattr(Releases, "away", False)
        until(lambda: counts["probes"] == 5)
        monkeypatch.setattr(Releases, "away", True)
        until(lambda: counts["registry_failures"] >= 240)
        feed(log, [asked(n) for n in range(5, 9)])
        until(lambda: counts["probes"] == 9)  # the champion that it has goes on
    finally:
        stop.set()
        service.join(60)
    assert sorted(one.id for one in impressions(log) if one.origin == "student") == [f"r{n}.probe" for n in range(9)]
    assert caplog.text.count("the champion cannot be fetched; the one before is asked until it can: away") == 2


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_probe_that_nobody_saw_teaches_nothing_by_its_silence(log: Log, bundles: list[Bundle]) -> None:
    feed(log, [asked(n) for n in range(6)])
    run(log, bundles[0], share=1.0)
    probed = next(one for one in impressions(log) if one.id == "r3.probe")
    click = Feedback("f1", "r3.probe", probed.candidates[2].item, "click", time_us=NOW_US + 10)
    feed(log, [click, Feedback("f2", "r1", "item-21", "click", time_us=NOW_US + 9)])
    teacher = FunctionTeacher(lambda lists: [[1.0] * len(one.candidates) for one in lists], "t", "1", "logit")
    score.run(log, teacher, wait_s=0.05, stop=threading.Event(), drain=True)
    join.run(log, wait_s=0.05, soft="with_labels", stop=threading.Event(), drain=True, flush=True)
    source = log.source(["examples"])
    examples = {(e := decode(Example, message.value)).ranking.impression.id: e for message in source.read(100, 0.1)}
    source.close()
    assert len(examples) == 12
    states = {name: example.label_state for name, example in examples.items()}
    assert {name for name, state in states.items() if state == "none"} == {f"r{n}.probe" for n in (0, 1, 2, 4, 5)}
    assert examples["r3.probe"].labels == tuple(float(n == 2) for n in range(len(probed.candidates)))
    assert sum(examples["r1"].labels) == 1


def test_the_champion_of_another_log_proposes_what_this_log_holds(log: Log, tmp_path: Path) -> None:
    """Its catalogue stands at offset 9 of the log that it was made on. In this log, nine items come before that."""
    where = {"positions": {"lanes": {"identity": {"cluster": "another log"}}}}
    bundle = make_student(seed=0).export(tmp_path / "bundle", provenance=where, base_position=9)
    liked = ["item-29", "item-50", "item-26", "item-23", "item-59", "item-46", "item-30", "item-21", "item-39"]
    first = [Request(one.history, one.context, one.exclude, one.time_us) for one in (asked(0), asked(1))]
    for answer in Recommender(bundle).recommend(first, 8):
        assert set(answer.items) & set(liked), "they would be proposed"
    feed(log, [Item(name, version=2, withdrawn=True) for name in liked])
    feed(log, [asked(n) for n in range(40)])
    assert run(log, bundle, share=1.0)["probes"] == 40
    probed = [one for one in impressions(log) if one.id.endswith(".probe")]
    assert {c.item for one in probed for c in one.candidates}.isdisjoint(liked)

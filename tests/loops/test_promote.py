"""The promoter: what the judge is told of the teacher's budget, and a teacher that is away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from support.hook import Hook
from support.registries import note

from recdistill import release
from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import CheckpointError, LogChanged, RegistryError, TeacherError, WrongLog
from recdistill.hops import Counts
from recdistill.judge import Asked, Judgement, gate, write_report
from recdistill.ledger import NO_KEYS, Ledger
from recdistill.loops import promote, queue, rounds
from recdistill.loops.announce import Announcer
from recdistill.loops.feed import feed
from recdistill.loops.tell import Teller
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, encode
from recdistill.registry import BundleRef, Evidence, Registry, Version
from recdistill.stream import LanePosition, Lanes, Log, gone, open_log, standard_topics
from recdistill.teachers import Scores
from references.students import NOW_US, make_student
from tools.mlflow_server import new_file


def example(n: int, *, budget: bool) -> Example:
    rng = np.random.default_rng(n)
    shown = [f"item-{i}" for i in rng.permutation(np.arange(20, 60))[:8]]
    history = tuple(Event(f"item-{i}", NOW_US - 1000 + i, "click") for i in range(n % 3, 9))
    impression = Impression(f"r{n}", NOW_US + n, None, history, {}, tuple(map(Candidate, shown)))
    chosen = not budget or n % 4 == 0
    scores = tuple(float(x) if chosen else 0.0 for x in rng.normal(size=8))
    ranking = Ranking(impression, "t", "1", "logit", scores, (chosen,) * 8, sampled=0.25 if budget else 1.0)
    return Example(ranking, (1.0,) + (0.0,) * 7, "closed")


@pytest.mark.slow
@pytest.mark.parametrize("budget", [True, False])
def test_the_judge_counts_what_the_teacher_was_asked_for(tmp_path: Path, budget: bool) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    feed(log, [example(n, budget=budget) for n in range(80)])
    lanes = Lanes(log, dead_letters=lambda *_: None)
    until = lanes.end_state()
    lanes.close()
    feed(log, [example(n, budget=budget) for n in range(80, 120)])
    bundle = make_student().export(tmp_path / "bundle", provenance={"positions": {"lanes": until}}, base_position=0)
    found = release.judge(log, bundle, 10_000, teacher=None, cost_per_1000=50.0)
    log.close()
    if not budget:
        assert found.spending is None
        return
    assert found.spending is not None
    assert msgspec.to_builtins(found.spending) == {
        "lists": 80, "lists_scored": 20, "candidates": 640, "scored": 160, "seconds": None, "cost": 480 * 50 / 1000,
    }  # fmt: skip
    assert found.spending.share == 0.25


def made(log: Log, registry: Registry, *bundles: Bundle) -> None:
    """Sends and announces, as a distiller does."""
    announcer = Announcer(log, registry.put)
    announcer.begin("student", Path("no/such/folder"))
    for bundle in bundles:
        announcer(bundle)
    announcer.close()


def end_of(log: Log) -> LanePosition:
    lanes = Lanes(log, dead_letters=lambda *_: None)
    until = lanes.end_state()
    lanes.close()
    return until


@pytest.mark.slow
def test_the_newest_bundle_that_can_be_judged_is_the_one_that_is(tmp_path: Path) -> None:
    """Three students of one stream: the newest has too little behind it, so the middle one is judged, and no other."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    bundles = []
    for n in range(3):
        feed(log, [example(40 * n + k, budget=False) for k in range(40)])
        where = {
            "step": n,
            "positions": {"lanes": msgspec.to_builtins(end_of(log))},
            "made_at": f"2026-01-02T03:04:0{n}+00:00",
            "event_us": time.time_ns() // 1000 - (n + 1) * 1_000_000_000,
        }
        bundles.append(make_student(seed=n).export(tmp_path / str(n), provenance=where, base_position=0))
    made(log, registry, *bundles, bundles[0])
    forgotten = make_student(seed=9).export(tmp_path / "9", provenance=where, base_position=0)
    forgetful = Announcer(log, lambda bundle: None)
    forgetful.begin("another", tmp_path / "none")
    forgetful(forgotten)  # announced, and not in the store
    forgetful.close()
    assert registry.versions() == []  # a version is what was judged

    def drained(**more: Any) -> Counter[str]:
        evidence = partial(gate, asked=Asked(min_lists=20, retention=0.0, champion=0.0, beats_popularity=False))
        chosen: dict[str, Any] = {"gate": evidence, "min_lists": 20, "teacher": None, "drain": True, **more}
        return promote.run(log, registry, **chosen, stop=threading.Event())

    def told(counts: Counter[str]) -> dict[str, float]:
        """What the promoter's `/metrics` says of the control."""
        assert isinstance(counts, Counts)
        lines = [line.split() for line in counts.lines() if line.startswith("recdistill_control_")]
        return {name.removeprefix("recdistill_control_"): float(value) for name, value in lines}

    alone = Registry(f"sqlite:///{tmp_path}/mlflow.sqlite", "students.control")
    controls = release.Controls(alone)
    counts = drained(counts=Counts(), controls=controls)
    assert told(counts) == {}, "nobody made a control"
    assert (counts["judged"], counts["promoted"], counts["broken"]) == (1, 1, 0)
    assert isinstance(counts, Counts)
    for hop in ("judged", "promoted"):  # the middle bundle's newest event was 2,000 s ago when it was planted
        noted = counts.hops[hop]  # type: ignore[index]
        assert noted.newest_us == bundles[1].manifest.provenance["event_us"]
        assert noted.sum_s == pytest.approx((noted.at_us - noted.newest_us) / 1e6, abs=1.0)
    [version] = registry.versions()
    assert (version.content_hash, version.aliases) == (bundles[1].content_hash, ["champion"])
    feed(log, [example(200 + k, budget=False) for k in range(15)])
    assert drained()["judged"] == 0
    feed(log, [example(300 + k, budget=False) for k in range(15)])
    first = bundles[0].manifest.provenance
    alone.put(make_student(seed=30).export(tmp_path / "control", provenance=first, base_position=0))
    counts = drained(automatic=False, counts=Counts(), controls=controls)
    gauges = told(counts)
    assert gauges["missing"] == 0
    assert gauges["made_seconds"] == datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC).timestamp()
    assert gauges["lead_ndcg10_low"] <= gauges["lead_ndcg10"] <= gauges["lead_ndcg10_high"]
    # Of the two whose positions are the newest, the one that nobody can fetch is passed over with a warning.
    assert (counts["broken"], counts["judged"], counts["promoted"]) == (1, 1, 0)
    assert registry.resolve("candidate").content_hash == bundles[2].content_hash
    # One of those that serve nobody is kept; the champion and the candidate have aliases.
    assert len(registry.held()) == 3
    more = [make_student(seed=n).export(tmp_path / str(n), provenance=where, base_position=0) for n in (20, 21)]
    made(log, registry, *more)
    alone.give_back([one.content_hash for one in alone.held()], grace_s=0)
    counts = drained(keep=1, grace_s=0.0, counts=Counts(), controls=controls)
    assert counts["judged"] == 1
    assert told(counts).keys() == {"began_seconds"}, "its store is there, and is empty"
    aliases = {alias: v.content_hash for v in registry.versions() for alias in v.aliases}
    assert aliases == {"champion": more[1].content_hash, "previous": bundles[1].content_hash}
    # Of the others the newest stays; two were made in the same second, so their hash decides.
    newest = max(bundles[2].content_hash, more[0].content_hash)
    assert {each.content_hash for each in registry.held()} == {*aliases.values(), newest}
    log.close()


def hold_out(log: Log, examples: Sequence[Example]) -> None:
    """Writes to the topic of held-out lists, as the joiner does."""
    stage = log.stage("joiner")
    with stage.transaction() as transaction:
        for one in examples:
            transaction.send("held-out", encode(one), key=one.ranking.impression.id.encode())
    stage.close()


def silent(one: Example) -> Example:
    return msgspec.structs.replace(one, labels=(0.0,) * len(one.labels))


@pytest.mark.slow
def test_a_bundle_that_learnt_everything_is_judged_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing stands behind the place where it stopped. Lists that nobody learns from judge it, and the champion."""
    caplog.set_level("INFO")
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    feed(log, [example(n, budget=False) for n in range(40)])
    # One list in four is labelled, as where most lists get no click.
    lists = [example(1000 + n, budget=False) for n in range(120)]
    hold_out(log, [one if n % 4 == 0 else silent(one) for n, one in enumerate(lists[:60])])
    evidence = partial(gate, asked=Asked(min_lists=20, retention=0.0, champion=0.0, beats_popularity=False))
    judgements: list[Judgement] = []

    def judged(judgement: Judgement) -> Evidence:
        judgements.append(judgement)
        return evidence(judgement)

    def drained(**more: Any) -> Counter[str]:
        chosen: dict[str, Any] = {"gate": judged, "min_lists": 20, "held_out": 25, "teacher": None, **more}
        return promote.run(log, registry, **chosen, drain=True, stop=threading.Event())

    def bundle(seed: int) -> Bundle:
        where = {"step": seed, "positions": {"lanes": msgspec.to_builtins(end_of(log))}, "made_at": f"2026-01-0{seed}"}
        return make_student(seed=seed).export(tmp_path / str(seed), provenance=where, base_position=0)

    first = bundle(1)
    made(log, registry, first)
    counts = drained()
    assert (counts["judged"], counts["waiting"]) == (0, 1)
    said = "it has 15 labelled lists and 20 are asked: 5 more"
    assert said in caplog.text
    assert drained(which="held-out")["waiting"] == 1
    hold_out(log, [one if n % 4 == 0 else silent(one) for n, one in enumerate(lists[60:])])
    assert drained(which="behind")["judged"] == 0
    counts = drained()
    assert (counts["judged"], counts["promoted"]) == (1, 1)
    assert judgements[-1].quality("champion") is None
    assert judgements[-1].lists == 25  # of 30, the newest
    second = bundle(2)
    made(log, registry, second)
    assert drained()["judged"] == 1
    [before, after] = judgements
    assert after.part == msgspec.structs.replace(before.part, learnt=after.part.learnt)  # type: ignore[arg-type, union-attr]
    assert after.part is not None
    assert (after.part.lists, after.part.why) == ("held-out", "there are enough of them")
    # The champion is the first student, on the same lists: its figures are those that it had.
    champion, student = after.quality("champion"), before.quality("student")
    assert champion is not None
    assert student is not None
    assert champion.metrics == student.metrics
    difference = after.difference("student", "champion")
    assert difference is not None
    mine = after.quality("student")
    assert mine is not None
    gain = mine.metrics["ndcg@10"].mean - champion.metrics["ndcg@10"].mean
    assert difference.mean == pytest.approx(gain)
    found = registry.evidence(registry.resolve("candidate" if difference.high < 0 else "champion").number)
    assert found is not None
    assert found.passed == (difference.high >= 0)
    assert found.lists.startswith("25 lists of users from whom no student learns, of 2")
    log.close()


@pytest.mark.slow
def test_the_pinned_version_is_a_line_of_the_report_and_no_gate(tmp_path: Path) -> None:
    """Version 1 stays pinned while others become the champion. Nothing is asked of it, and what it lacks is said."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.sqlite'}", "students")
    feed(log, [example(n, budget=False) for n in range(40)])
    hold_out(log, [example(1000 + n, budget=False) for n in range(40)])
    judgements: list[Judgement] = []
    asked = Asked(min_lists=20, retention=0.0, champion=0.0, beats_popularity=False, not_below_champion=False)
    evidence = partial(gate, asked=asked)

    def judged(judgement: Judgement) -> Evidence:
        judgements.append(judgement)
        return evidence(judgement)

    def drained(pinned: str) -> Counter[str]:
        chosen: dict[str, Any] = {"gate": judged, "min_lists": 20, "teacher": None, "drain": True, "pinned": pinned}
        return promote.run(log, registry, **chosen, stop=threading.Event())

    where = {"step": 1, "positions": {"lanes": msgspec.to_builtins(end_of(log))}}
    for seed in range(4):
        made(log, registry, make_student(seed=seed).export(tmp_path / str(seed), provenance=where, base_position=0))
        # At first there is no such version.
        assert drained("1" if seed < 3 else "nobody")["promoted"] == 1
    first, second, third, last = judgements
    assert first.quality("pinned") is None
    assert any("not compared with the pinned version 1: the registry has no such version" in x for x in first.notes)
    # It was the champion when the second was judged, and two lines of one bundle say the same.
    pinned, champion, own = third.quality("pinned"), second.quality("champion"), first.quality("student")
    assert pinned is not None
    assert champion is not None
    assert own is not None
    assert pinned.metrics == champion.metrics == own.metrics
    assert any(
        "the line pinned is version 1, which gate.pinned names; nothing is asked of it" in x for x in third.notes
    )
    assert not any("pinned" in reason for reason in evidence(third).reasons)
    apart = third.difference("student", "pinned")
    mine = third.quality("student")
    assert apart is not None
    assert mine is not None
    assert apart.mean == pytest.approx(mine.metrics["ndcg@10"].mean - own.metrics["ndcg@10"].mean)
    assert any("the pinned version nobody: the registry has no such version" in note for note in last.notes)
    report = tmp_path / "report.html"
    write_report(third, report, evidence(third))
    assert "Pinned version" in report.read_text()
    log.close()


@pytest.mark.slow
def test_a_champion_that_learnt_from_the_judged_lists_is_left_out(tmp_path: Path) -> None:
    """Where no list is held out, the examples behind the candidate's place may be known to the champion."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    bundles = []
    for n in range(3):
        feed(log, [example(40 * n + k, budget=False) for k in range(40)])
        where = {"positions": {"lanes": msgspec.to_builtins(end_of(log))}}
        bundles.append(make_student(seed=n).export(tmp_path / str(n), provenance=where, base_position=0))
    earlier, middle, later = bundles
    found = release.judge(log, middle, 100, teacher=None, champion=earlier)
    assert found.quality("champion") is not None
    assert found.part is not None
    assert (found.part.lists, found.lists) == ("behind", 40)
    found = release.judge(log, middle, 100, teacher=None, champion=later)
    assert found.quality("champion") is None
    assert any("the champion has learnt from lists that are judged" in note for note in found.notes)
    # With a bound, the simple rankers are made from the newest of what was learnt.
    few = release.judge(log, middle, 100, teacher=None, learnt=10)
    knn, all_knn = few.quality("itemknn"), found.quality("itemknn")
    assert knn is not None
    assert all_knn is not None
    assert knn.metrics != all_knn.metrics
    mine, same = few.quality("student"), found.quality("student")
    assert mine is not None
    assert same is not None
    assert mine.metrics == same.metrics
    log.close()


@pytest.mark.slow
def test_a_bundle_that_cannot_be_judged_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its lists hold nothing that can be judged: everything that was liked had been seen before."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    feed(log, [example(n, budget=False) for n in range(40)])
    where = {"positions": {"lanes": msgspec.to_builtins(end_of(log))}}
    made(log, registry, make_student().export(tmp_path / "bundle", provenance=where, base_position=0))

    def seen(one: Example) -> Example:
        shown = one.ranking.impression
        history = (*shown.history, Event(shown.candidates[0].item, shown.time_us - 1, "click"))
        ranking = msgspec.structs.replace(one.ranking, impression=msgspec.structs.replace(shown, history=history))
        return msgspec.structs.replace(one, ranking=ranking)

    hold_out(log, [seen(example(n, budget=False)) for n in range(100, 130)])
    counts = promote.run(
        log,
        registry,
        gate=partial(gate, asked=Asked(min_lists=20)),
        min_lists=20,
        teacher=None,
        protocol="catalogue",
        drain=True,
        stop=threading.Event(),
    )
    assert (counts["broken"], counts["judged"]) == (1, 0)
    log.close()


def test_what_a_bundle_learnt_from_is_held_against_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In a log that was cut back and has grown again, other lists stand behind the bundle's position."""
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    feed(log, [example(n, budget=False) for n in range(40)])
    lanes = Lanes(log, dead_letters=lambda *_: None)
    until = lanes.end_state()
    lanes.close()
    right = log.witness(until.by_partition())
    feed(log, [example(n, budget=False) for n in range(40, 60)])
    other = {"examples/0": right["examples/0"][:-1] + "x"}
    for number, witness in enumerate([right, None, other, {"examples/0": "?"}]):
        where = {"positions": {"lanes": msgspec.to_builtins(until), **({"witness": witness} if witness else {})}}
        bundle = make_student().export(tmp_path / f"bundle-{number}", provenance=where, base_position=0)
        if witness is right or witness is None:
            assert [each.ranking.impression.id for each in release.held_out(log, bundle, 5)] == [
                f"r{n}" for n in range(55, 60)
            ]
            assert ("has no witness" in caplog.text) == (witness is None)
        else:
            with pytest.raises((WrongLog, CheckpointError), match="was cut back|is not a witness"):
                release.held_out(log, bundle, 5)
    log.close()


class _Down:
    """A teacher that is away as a whole, so often as it is told, and then answers."""

    id, version = "t", "1"

    def __init__(self, times: int) -> None:
        self.times = times

    def apply_items(self, items: Sequence[Item]) -> None:
        pass

    def score(self, impressions: Sequence[Impression]) -> list[Scores | TeacherError]:
        self.times -= 1
        if self.times >= 0:
            raise TeacherError("http://teacher: no answer")
        ones = [np.ones(len(impression.candidates), np.float32) for impression in impressions]
        return [Scores(values, values > 0) for values in ones]


@pytest.mark.slow
@pytest.mark.parametrize("drain", [True, False])
def test_a_teacher_that_is_away_is_waited_for(tmp_path: Path, drain: bool) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    feed(log, [example(n, budget=False) for n in range(80)])
    lanes = Lanes(log, dead_letters=lambda *_: None)
    where = {"positions": {"lanes": lanes.end_state()}}
    lanes.close()
    feed(log, [example(n, budget=False) for n in range(80, 120)])
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    made(log, registry, make_student().export(tmp_path / "bundle", provenance=where, base_position=0))
    stop = threading.Event()
    counts: Counter[str] = Counter()

    def promoted() -> None:
        promote.run(
            log,
            registry,
            gate=partial(gate, asked=Asked(min_lists=20)),
            min_lists=20,
            wait_s=0.1,
            teacher=_Down(2),
            stop=stop,
            drain=drain,
            counts=counts,
        )

    if drain:
        with pytest.raises(TeacherError, match="no answer"):
            promoted()
        assert registry.versions() == []
    else:
        promoter = threading.Thread(target=promoted)
        promoter.start()
        until = time.monotonic() + 60
        while not counts["judged"] and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()
        promoter.join(60)
        assert (counts["waiting"], counts["judged"], len(registry.versions())) == (2, 1, 1)
    log.close()


class Shelf:
    """A registry in memory, which can go away in the middle of anything."""

    name = "students"

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        self.bundles = {bundle.content_hash: bundle for bundle in bundles}
        self.made: list[tuple[str, Evidence]] = []  # content and evidence; the number of a version is its place + 1
        self.champion: str | None = None
        self.tried = ""  # the version that is a canary, or was
        self.calls, self.away = 0, range(0)

    def _call(self) -> None:
        self.calls += 1
        if self.calls in self.away:
            raise RegistryError("http://mlflow: does not answer")

    def versions(self) -> list[Version]:
        self._call()
        made = [
            Version(
                number=str(n + 1),
                content_hash=content,
                aliases=[],
                reason="",
                created_at=evidence.made_at,
                run_id="",
                passed=evidence.passed,
            )
            for n, (content, evidence) in enumerate(self.made)
        ]
        return made[::-1]

    def _ref(self, number: str) -> BundleRef:
        return BundleRef(number=number, content_hash=self.made[int(number) - 1][0], uri="")

    def find(self, _: str) -> BundleRef | None:
        self._call()
        return None if self.champion is None else self._ref(self.champion)

    def resolve(self, number: str) -> BundleRef:
        self._call()
        return self._ref(number)

    def holds(self, content_hash: str) -> bool:
        self._call()
        return content_hash in self.bundles

    def take(self, content_hash: str, _: Path) -> Bundle:
        self._call()
        return self.bundles[content_hash]

    def published(self, bundle: Bundle, evidence: Evidence) -> Version:
        self._call()
        contents = [content for content, _ in self.made]
        if bundle.content_hash in contents:
            self.made[contents.index(bundle.content_hash)] = (bundle.content_hash, evidence)
        else:
            self.made.append((bundle.content_hash, evidence))
        self._call()  # the answer gets lost as well
        return next(one for one in self.versions() if one.content_hash == bundle.content_hash)

    def aliases(self) -> dict[str, str]:
        self._call()
        return {} if self.champion is None else {"champion": self.champion}

    def crown(self, number: str, *, previous: str | None = None) -> None:
        self._call()
        self.champion = number

    def exists(self, number: str) -> bool:
        return self.has_bundle(number)

    def has_bundle(self, number: str) -> bool:
        self._call()
        return int(number) <= len(self.made)

    def say(self, number: str, text: str, tags: dict[str, str] | None = None) -> None:
        self._call()

    def tags(self, _: str) -> dict[str, str]:
        self._call()
        return {}

    def tag(self, number: str, key: str) -> str | None:
        self._call()
        return "begun" if (number, key) == (self.tried, "canary") else None

    def evidence(self, number: str) -> Evidence:
        self._call()
        return self.made[int(number) - 1][1]

    def former(self) -> tuple[list[Any], list[str]]:
        self._call()
        return [], []

    def held(self, _: Any) -> list[Any]:
        self._call()
        return []

    def give_back(self, _: Any, *, grace_s: float) -> int:
        return 0


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Judging itself is tested above; here a verdict is given by hand."""
    monkeypatch.setattr(promote, "judge", lambda log, bundle, most, **_: bundle)

    def published(registry: Shelf, ledger: Ledger, bundle: Bundle, _: Any, evidence: Evidence, **more: Any) -> Any:
        note(ledger, evidence, promotes=more["promotes"])
        return registry.published(bundle, evidence), evidence

    monkeypatch.setattr(promote, "publish", published)
    bundles = [make_student(seed=n).export(tmp_path / str(n), base_position=0) for n in range(2)]
    return Shelf(bundles)


def verdict(bundle: Bundle, *, passed: bool = True) -> Evidence:
    reasons = ["fine"] if passed else ["retention .5 is below .95 at https://me:hunter2@teacher/"]
    made_at = "2026-01-02T03:04:05+00:00"
    return Evidence(
        content_hash=bundle.content_hash, passed=passed, reasons=reasons, metrics={}, made_at=made_at, judged=9
    )


@pytest.fixture
def held_log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    hold_out(log, [example(n, budget=False) for n in range(20)])
    yield log
    log.close()


def looped(
    log: Log, shelf: Shelf, until: Callable[[Counter[str]], bool], stop_after: int = 500, **more: Any
) -> Counter[str]:
    """Runs the promoter until something is true, looking each time it waits."""
    counts = Counter[str]()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.rounds = getattr(self, "rounds", 0) + 1
            if until(counts) or self.rounds > stop_after:
                self.set()
            return self.is_set()

    chosen: dict[str, Any] = {"gate": verdict, "min_lists": 20, "teacher": None, "wait_s": 0.0, **more}
    return promote.run(log, shelf, **chosen, stop=Stop(), counts=counts)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", range(1, 12))
def test_a_registry_that_goes_away_at_any_call_loses_nothing(
    held_log: Log, shelf: Shelf, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten minutes of it are 120 looks; here it is away for 20 calls, from each call of a judgement on."""
    [bundle, _] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]
    shelf.away = range(first, first + 20)
    counts = looped(held_log, shelf, lambda counts: counts["promoted"] > 0, patience_s=3600.0)
    assert counts["registry_failures"] == 20 if first < 9 else counts["registry_failures"] <= 20
    assert (counts["promoted"], shelf.champion, len(shelf.made)) == (1, "1", 1)
    said = [record.getMessage() for record in caplog.records if "waited for" in record.getMessage()]
    if counts["registry_failures"]:
        assert said == [
            "the registry is waited for, 3600 s at most, and nothing is lost: http://mlflow: does not answer"
        ]


@pytest.mark.parametrize("first", range(1, 16))
def test_a_promoter_that_ends_at_any_call_leaves_the_promotion_to_the_next_one(
    held_log: Log, shelf: Shelf, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recdistill.release.champion.AT_WORK_S", 0.0)  # the next one need not wait for the last
    [bundle, _] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]
    shelf.away = range(first, first + 1)
    with contextlib.suppress(RegistryError):
        looped(held_log, shelf, lambda counts: counts["promoted"] > 0)
    counts = looped(held_log, shelf, lambda counts: counts["promoted"] > 0, stop_after=20)
    assert (shelf.champion, len(shelf.made)) == ("1", 1), counts


@pytest.mark.parametrize("since", ["nothing", "refused", "moved", "canary", "by hand before", "by hand now"])
def test_what_was_decided_about_a_version_that_passed_is_not_decided_again(
    held_log: Log, shelf: Shelf, since: str
) -> None:
    """A version that a person publishes, or leaves with `promote.automatic` off, is that person's affair."""
    [bundle, _] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]
    if since == "by hand before":
        looped(held_log, shelf, lambda counts: counts["registered"] > 0, automatic=False)
    else:
        shelf.away = range(11, 12)
        with pytest.raises(RegistryError):
            looped(held_log, shelf, lambda _: False)
    assert (len(shelf.made), shelf.champion) == (1, None)
    shelf.tried = "1" if since == "canary" else ""
    if since in ("refused", "moved"):
        said: dict[str, Any] = {"who": "ada", "version": "1" if since == "refused" else ""}
        ledger = Ledger(held_log, shelf.name, NO_KEYS)
        release.as_writer(ledger, lambda writer: writer.append(since, content_hash=bundle.content_hash, **said))
        ledger.close()
    counts = looped(held_log, shelf, lambda _: False, stop_after=3, automatic=since != "by hand now")
    assert (counts["promoted"], counts["judged"]) == (int(since == "nothing"), 0)
    assert shelf.champion == ("1" if since == "nothing" else None)
    counts = looped(held_log, shelf, lambda _: False, stop_after=3, automatic=since != "by hand now")
    assert counts["promoted"] == 0, "once is enough"


@pytest.mark.parametrize(
    "how", ["rollback", "alias while it is judged", "alias after it was judged", "alias taken away"]
)
def test_a_version_is_judged_again_when_the_champion_changes_while_it_is_judged(
    held_log: Log, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A person who acts in these minutes is not overruled by a verdict beside the champion that was left."""
    one, two = shelf.bundles.values()
    announced = SimpleNamespace(put=lambda _: 0)
    made(held_log, announced, one)  # type: ignore[arg-type]
    looped(held_log, shelf, lambda counts: counts["promoted"] > 0)
    assert shelf.champion == "1"
    shelf.made.append(("e" * 64, verdict(two)))
    made(held_log, announced, two)  # type: ignore[arg-type]
    beside: list[str | None] = []
    persons = None if how == "alias taken away" else "2"

    def judge(log: Log, bundle: Bundle, most: int, **_: Any) -> Bundle:
        beside.append(shelf.champion)
        if len(beside) == 1 and how == "rollback":
            with contextlib.closing(Ledger(held_log, shelf.name, NO_KEYS)) as ledger:
                release.change(shelf, ledger, "2", "e" * 64, expect="1", who="ada", why="complaints")  # type: ignore[arg-type]
        elif len(beside) == 1 and how != "alias after it was judged":
            shelf.champion = persons  # as MLflow's page does: nothing else knows of it
        return bundle

    def promoted(registry: Any, *args: Any, **more: Any) -> Any:
        if len(beside) == 1 and how == "alias after it was judged":
            shelf.champion = persons
        return release.promote(registry, *args, **more)

    monkeypatch.setattr(promote, "judge", judge)
    monkeypatch.setattr(rounds, "promote", promoted)
    counts = looped(held_log, shelf, lambda counts: counts["promoted"] > 0, stop_after=20)
    assert beside == ["1", persons]
    assert (shelf.champion, counts["promoted"], counts["judged"], counts["refused"]) == ("3", 1, 2, 0)
    with contextlib.closing(Ledger(held_log, shelf.name, NO_KEYS)) as ledger:
        changes = [(one.kind, one.before, one.after) for one in ledger.look().changes]
    theirs = "promote" if how == "rollback" else "by hand"
    assert changes == [("promote", None, "1"), (theirs, "1", persons), ("promote", persons, "3")]


def test_a_promoter_that_ended_does_not_make_the_next_one_overrule_a_person(
    held_log: Log, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 passed, and its promoter ended. A person sets the alias just before the next one promotes version 1."""
    [bundle, other] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]

    def ends(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "promote", ends)
    with pytest.raises(KeyboardInterrupt):
        looped(held_log, shelf, lambda _: False)

    def promoted(registry: Any, *args: Any, **more: Any) -> Any:
        shelf.made.append((other.content_hash, verdict(other)))
        shelf.champion = "2"
        return release.promote(registry, *args, **more)

    monkeypatch.setattr(rounds, "promote", promoted)
    counts = looped(held_log, shelf, lambda _: False, stop_after=3)
    assert (shelf.champion, counts["promoted"], counts["judged"]) == ("2", 0, 0)


def test_a_registry_that_stays_away_ends_the_promoter_and_a_drained_run_does_not_wait(
    held_log: Log, shelf: Shelf
) -> None:
    shelf.away = range(1, 10**6)
    with pytest.raises(RegistryError, match="does not answer"):
        looped(held_log, shelf, lambda _: False, patience_s=1e-9)
    with pytest.raises(RegistryError):
        looped(held_log, shelf, lambda _: False, patience_s=3600.0, drain=True)


def test_a_promoter_that_is_told_to_stop_while_the_log_is_silent_ends(
    held_log: Log, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that there are lists, and never sends one. Nobody ends the process with force."""
    stop, real = threading.Event(), held_log.source

    def source(tps: Any, *args: Any) -> Any:
        found = real(tps, *args)
        if "held-out" in {tp if isinstance(tp, str) else tp.topic for tp in tps}:

            def silent(*_: Any) -> list[Any]:
                stop.set()
                return []

            monkeypatch.setattr(found, "read_from", silent)
        return found

    monkeypatch.setattr(held_log, "source", source)
    chosen: dict[str, Any] = {"gate": verdict, "min_lists": 20, "teacher": None, "wait_s": 0.0}
    counts = promote.run(held_log, shelf, **chosen, stop=stop)  # type: ignore[arg-type]
    assert stop.is_set()
    assert counts["judged"] == 0


def test_a_topic_that_is_deleted_while_a_bundle_is_judged_ends_the_promoter_and_gives_up_no_bundle(
    held_log: Log, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle of another log is given up instead: no later judgement can find its lists."""
    [bundle, _] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]
    troubles: list[Exception] = [gone("examples")]

    def judge(log: Log, bundle: Bundle, most: int, **_: Any) -> Bundle:
        if troubles:
            raise troubles.pop()
        return bundle

    monkeypatch.setattr(promote, "judge", judge)
    told: list[str] = []
    with pytest.raises(LogChanged, match="topic 'examples' was deleted while this process used it; end all stages"):
        looped(held_log, shelf, lambda _: False, tell=lambda what, _: told.append(what))
    assert (told, shelf.champion) == ([], None)
    counts = looped(held_log, shelf, lambda counts: counts["promoted"] > 0)
    assert (counts["broken"], counts["promoted"]) == (0, 1), "the next promoter judges it"
    troubles.append(WrongLog("this log is 'a', but the saved position is for log 'b'"))
    shelf.made.clear()
    shelf.champion = None
    counts = looped(held_log, shelf, lambda counts: counts["broken"] > 0)
    assert (counts["broken"], counts["promoted"]) == (1, 0)


def test_a_topic_that_is_deleted_while_lists_behind_a_bundle_are_counted_ends_the_promoter(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "empty.sqlite")))
    log.create_topics(standard_topics())
    where = {"positions": {"lanes": msgspec.to_builtins(end_of(log))}}
    bundle = make_student(seed=5).export(tmp_path / "5", provenance=where, base_position=0)
    made(log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]

    def count(*_: Any) -> None:
        raise gone("examples")

    monkeypatch.setattr(queue, "count_held_out", count)
    with pytest.raises(LogChanged, match="topic 'examples' was deleted"):
        looped(log, shelf, lambda _: False)
    log.close()


@pytest.mark.slow
def test_a_refused_version_is_judged_again_when_more_lists_have_come_and_both_verdicts_are_told(
    held_log: Log, shelf: Shelf
) -> None:
    hook = Hook(200)
    counts = Counter[str]()
    teller = Teller(hook.url, ["refused", "promoted"], timeout_s=10, tries=2, counts=counts)
    [bundle, _] = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), bundle)  # type: ignore[arg-type]
    looks: list[int] = []

    def gate_by_hand(judgement: Any) -> Evidence:
        looks.append(1)
        return verdict(judgement, passed=len(looks) == 2)

    def more_come(found: Counter[str]) -> bool:
        if found["judged"] == 1 and len(looks) == 1:
            hold_out(held_log, [example(1000 + n + 30 * found["fed"], budget=False) for n in range(30)])
            found["fed"] += 1
            assert found["fed"] <= 3
        return found["promoted"] > 0

    chosen = {"gate": gate_by_hand, "again_lists": 50, "tell": teller}
    found = looped(held_log, shelf, more_come, **chosen)
    assert (found["judged"], found["failed_gate"], found["promoted"], found["fed"]) == (2, 1, 1, 2)
    assert len(shelf.made) == 1, "the version keeps its number, and gets the newer evidence"
    teller.close()
    assert [message["kind"] for message in hook.got] == ["refused", "promoted"]
    assert hook.got[0]["bundle"] == bundle.content_hash
    assert "retention .5 is below .95" in str(hook.got[0]["reasons"])
    assert "hunter2" not in str(hook.got)
    hook.close()


def test_a_refused_version_is_left_alone_without_a_rule_and_when_a_newer_bundle_was_judged(
    held_log: Log, shelf: Shelf
) -> None:
    one, two = shelf.bundles.values()
    made(held_log, SimpleNamespace(put=lambda _: 0), one)  # type: ignore[arg-type]
    refusing = partial(verdict, passed=False)
    waits = [0]

    def some_rounds(_: Counter[str]) -> bool:
        waits[0] += 1
        return waits[0] % 5 == 0

    assert looped(held_log, shelf, some_rounds, gate=refusing)["judged"] == 1
    assert looped(held_log, shelf, some_rounds, gate=refusing)["judged"] == 0
    # With a rule by time the restarted promoter knows from the version when it was refused.
    assert looped(held_log, shelf, some_rounds, gate=refusing, again_s=60.0, again_most=1)["judged"] == 1
    made(held_log, SimpleNamespace(put=lambda _: 0), two)  # type: ignore[arg-type]
    found = looped(held_log, shelf, some_rounds, again_s=10.0**9)
    assert (found["judged"], found["promoted"]) == (1, 1)
    assert looped(held_log, shelf, some_rounds, again_s=60.0)["judged"] == 0, "what passed is not judged again"


def test_the_topics_are_trimmed_by_the_clock(held_log: Log, shelf: Shelf) -> None:
    done = [0]

    def trim() -> int:
        done[0] += 1
        return 7

    waits = [0]

    def some_rounds(_: Counter[str]) -> bool:
        waits[0] += 1
        return waits[0] == 5

    found = looped(held_log, shelf, some_rounds, trim=trim, trim_every_s=1e10)  # no machine has run so long
    assert (done[0], found["trimmed_offsets"]) == (1, 7)

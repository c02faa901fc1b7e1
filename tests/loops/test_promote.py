"""The promoter: what the judge is told of the teacher's budget, and a teacher that is away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recdistill import release
from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import CheckpointError, TeacherError, WrongLog
from recdistill.hops import Counts
from recdistill.judge import Asked, Judgement, gate
from recdistill.loops import promote
from recdistill.loops.announce import Announcer
from recdistill.loops.feed import feed
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, encode
from recdistill.registry import Evidence, Registry
from recdistill.stream import LanePosition, Lanes, Log, open_log, standard_topics
from recdistill.teachers import Scores
from references.students import NOW_US, make_student


def example(n: int, *, budget: bool) -> Example:
    rng = np.random.default_rng(n)
    shown = [f"item-{i}" for i in rng.permutation(np.arange(20, 60))[:8]]
    history = tuple(Event(f"item-{i}", NOW_US - 1000 + i, "click") for i in range(n % 3, 9))
    impression = Impression(f"r{n}", NOW_US + n, None, history, {}, tuple(map(Candidate, shown)))
    chosen = not budget or n % 4 == 0
    scores = tuple(float(x) if chosen else 0.0 for x in rng.normal(size=8))
    ranking = Ranking(impression, "t", "1", "logit", scores, (chosen,) * 8, sampled=0.25 if budget else 1.0)
    return Example(ranking, (1.0,) + (0.0,) * 7, "closed")


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
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.sqlite'}", "students")
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
        evidence = partial(gate, asked=Asked(min_lists=20, retention=0.0, beats_popularity=False))
        chosen: dict[str, Any] = {"gate": evidence, "min_lists": 20, "teacher": None, "drain": True, **more}
        return promote.run(log, registry, **chosen, stop=threading.Event())

    counts = drained(counts=Counts())
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
    counts = drained(automatic=False)
    # Of the two whose positions are the newest, the one that nobody can fetch is passed over with a warning.
    assert (counts["broken"], counts["judged"], counts["promoted"]) == (1, 1, 0)
    assert registry.resolve("candidate").content_hash == bundles[2].content_hash
    # One of those that serve nobody is kept; the champion and the candidate have aliases.
    assert len(registry.held()) == 3
    more = [make_student(seed=n).export(tmp_path / str(n), provenance=where, base_position=0) for n in (20, 21)]
    made(log, registry, *more)
    assert drained(keep=1, grace_s=0.0)["judged"] == 1
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
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.sqlite'}", "students")
    feed(log, [example(n, budget=False) for n in range(40)])
    # One list in four is labelled, as where most lists get no click.
    lists = [example(1000 + n, budget=False) for n in range(120)]
    hold_out(log, [one if n % 4 == 0 else silent(one) for n, one in enumerate(lists[:60])])
    evidence = partial(gate, asked=Asked(min_lists=20, retention=0.0, beats_popularity=False))
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
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.sqlite'}", "students")
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
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.sqlite'}", "students")
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

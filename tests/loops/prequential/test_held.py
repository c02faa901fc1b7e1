"""Held-out lists are scored by the bundle that served when they came, whoever serves now."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import pytest
from sklearn.metrics import ndcg_score
from support import world
from support.registries import judged, ledger_at

from recdistill.config import LogSettings
from recdistill.errors import RegistryError
from recdistill.hops import Counts
from recdistill.judge import Asked, gate
from recdistill.loops import promote
from recdistill.loops.follow import Champion
from recdistill.loops.prequential import Found, HeldAhead, Served, held_in_words, in_turn, served_since
from recdistill.loops.prequential.held import served_at
from recdistill.loops.prequential.opening import InRegistry
from recdistill.loops.standing.processes import counts_of
from recdistill.records import Candidate, Event, Example, Impression, Ranking, encode
from recdistill.registry import Registry
from recdistill.release import change
from recdistill.serve import Recommender, Request
from recdistill.stream import open_log, standard_topics
from references.students import make_student
from tools.mlflow_server import new_file


class Answer(NamedTuple):
    items: list[str]
    scores: list[float]


class Fake:
    """Prefers high numbers, or low ones."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def rank(self, request: Any, items: list[str]) -> Answer:
        return Answer(items, [float(self.sign * int(item.split("-")[1])) for item in items])


class Bundles:
    def __init__(self) -> None:
        self.opened: list[str] = []

    def now(self) -> str:
        return ""

    def open(self, content_hash: str) -> Found:
        self.opened.append(content_hash)
        if content_hash == "gone":
            raise RegistryError("the registry does not hold it any more")
        return Found(content_hash, cast("Any", Fake({"high": 1, "low": -1}[content_hash])))


SERVED = [Served(10 * world.SECOND, "high"), Served(40 * world.SECOND, "low"), Served(70 * world.SECOND, "gone")]


def held(count: int) -> list[Example]:
    return [example(one) for one in world.impressions(count)]


def example(shown: Impression) -> Example:
    scores = tuple(world.by_hash([shown])[0])
    numbers = [int(one.item.split("-")[1]) for one in shown.candidates]
    labels = tuple(float(number == max(numbers)) for number in numbers)
    return Example(Ranking(shown, "hash", "1", "logit", scores, (True,) * len(scores)), labels, "closed")


def test_each_list_is_scored_by_the_champion_of_its_time(caplog: pytest.LogCaptureFixture) -> None:
    bundles = Bundles()
    ahead = HeldAhead(bundles, share=1.0, window_s=1000)
    examples = held(90)
    ahead.take(examples, SERVED)
    signs = [1 if 10 <= second < 40 else -1 for second in range(10, 70)]
    wanted, teacher = [], []
    for sign, one in zip(signs, examples[9:69], strict=True):
        numbers = [int(c.item.split("-")[1]) for c in one.ranking.impression.candidates]
        wanted.append(ndcg_score([one.labels], [[sign * n for n in numbers]], k=10))
        teacher.append(ndcg_score([one.labels], [one.ranking.scores], k=10))
    now = ahead.told()["now"]
    assert now["ndcg"]["champion"]["n"] == now["lists"] == 60
    assert now["ndcg"]["champion"]["mean"] == pytest.approx(np.mean(wanted), abs=1e-6)
    assert now["ndcg"]["teacher"]["mean"] == pytest.approx(np.mean(teacher), abs=1e-6)
    assert bundles.opened == ["high", "low", "gone"]
    assert caplog.text.count("the lists of champion gone are not scored: the registry does not hold it any more") == 1


def test_a_process_that_starts_again_finds_the_same_rows() -> None:
    examples = held(69)
    whole, parts = (HeldAhead(Bundles(), share=0.6, window_s=9) for _ in range(2))
    whole.take(examples, SERVED)
    for begin in range(0, 69, 7):
        parts.take(examples[begin : begin + 7], SERVED)
    assert whole.told() == parts.told()
    assert len(whole.told()["rows"]) > 4
    assert 0 < whole.counts["prequential_lists"] < 60


def test_it_is_told_in_gauges_and_in_one_line() -> None:
    ahead = HeldAhead(Bundles(), share=1.0, window_s=1000)
    assert list(ahead.lines()) == []
    ahead.take(held(69), SERVED)
    figure = ahead.told()["now"]["ndcg"]["champion"]
    said = held_in_words(counts_of("\n".join(ahead.lines())))
    half = (figure["high"] - figure["low"]) / 2
    assert said == f"NDCG@10 of the champion of then on 60 held-out lists: {figure['mean']:.3f} ± {half:.3f}"
    assert held_in_words({}) == ""


def test_the_ledger_is_read() -> None:
    assert served_since("1970-01-01T00:00:02+00:00", "one") == Served(2_000_000, "one")
    assert served_since("soon", "one") is None


def came(number: int, time_us: int) -> Example:
    """A held-out list of one of five users, with one label."""
    random = np.random.default_rng(number)
    items = [f"item-{n}" for n in random.permutation(40)[:8]]
    history = tuple(Event(f"item-{n}", time_us - 1000 + n, "click") for n in range(number % 5))
    shown = Impression(f"r{number}", time_us, f"u{number % 5}", history, {}, tuple(map(Candidate, items)))
    scores = tuple(random.normal(size=8).tolist())
    return Example(Ranking(shown, "t", "1", "logit", scores, (True,) * 8), (0.0, 1.0, *(0.0,) * 6), "closed")


def test_a_clock_that_went_back_between_two_promotions_does_not_turn_them_round() -> None:
    entries = [("2026-01-01T12:30:00+00:00", "one"), ("2026-01-01T11:45:00+00:00", "two"), ("?", "unread")]
    served = in_turn(served_since(at, name) for at, name in entries)
    half_past_us = 1_767_270_600_000_000
    assert [one.content_hash for one in served] == ["one", "two"]
    assert served_at(served, half_past_us - 1) == ""
    assert served_at(served, half_past_us + 600_000_000) == "two"


@pytest.mark.slow
def test_the_promoter_scores_held_out_lists_by_the_ledger(tmp_path: Path) -> None:
    """Two champions, one after the other; lists from before both count for nobody."""
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "students")
    bundles = [make_student(60, seed=seed).export(tmp_path / str(seed)) for seed in (1, 2)]
    before, ledger = None, ledger_at(tmp_path, "students")
    for bundle in bundles:
        number = registry.publish(bundle, judged(bundle)).number
        change(registry, ledger, number, bundle.content_hash, expect=before, who="me", why="good")
        before = number
        time.sleep(1.1)
    first, second = (served_since(entry.at, "") for entry in ledger.look().changes)
    ledger.close()
    assert first is not None
    assert second is not None
    times_us = [first.at_us - 5_000_000, first.at_us + 500_000, second.at_us + 500_000]
    examples = [came(30 * part + n, times_us[part] + n) for part in range(3) for n in range(30)]
    wanted = []
    for bundle, part in ((bundles[0], examples[30:60]), (bundles[1], examples[60:])):
        recommender = Recommender(bundle)
        for one in part:
            shown = one.ranking.impression
            items = [candidate.item for candidate in shown.candidates]
            answer = recommender.rank(Request(history=shown.history, time_us=shown.time_us), items)
            given = dict(zip(answer.items, answer.scores, strict=True))
            wanted.append(
                ndcg_score([one.labels], [[given.get(item, -1e9) for item in items]], k=10)
            )  # withdrawn: last
    counts = Counts()
    with closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log:
        log.create_topics(standard_topics())
        with closing(log.stage("joiner")) as stage, stage.transaction() as transaction:
            for one in examples:
                transaction.send("held-out", encode(one), key=one.ranking.impression.id.encode())
        ahead = HeldAhead(
            InRegistry(Champion("students", lambda: registry, tmp_path / "cache"), lambda: True),
            share=1.0,
            window_s=3600,
        )
        promote.run(
            log,
            registry,
            gate=lambda judgement: gate(judgement, Asked()),
            min_lists=10**6,
            teacher=None,
            ahead=ahead,
            stop=threading.Event(),
            drain=True,
            counts=counts,
        )
    figure = msgspec.convert(ahead.told()["now"]["ndcg"]["champion"], dict[str, float])
    assert (figure["n"], figure["groups"]) == (60, 5)
    assert figure["mean"] == pytest.approx(np.mean(wanted), abs=1e-6)
    assert counts["prequential_lists"] == 60
    assert f'ndcg10{{line="champion",lists="held-out"}} {figure["mean"]:.6f}' in "\n".join(counts.lines())

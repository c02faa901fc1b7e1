"""The scorer under a budget: what it spares, what it learns, and that it chooses the same again."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import world

from recdistill.budget import Chooser, blocks, restore
from recdistill.budget.blocks import BLOCK, WINDOW
from recdistill.config import LogSettings, ScoreSettings
from recdistill.loops.feed import feed
from recdistill.loops.wire import score_from
from recdistill.records import Candidate, Impression, Ranking, decode
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher

TP = TopicPartition("impressions", 0)


def open_world(path: Path, partitions: int = 1) -> Log:
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(partitions=partitions))
    return log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_world(tmp_path / "log.sqlite")
    yield log
    log.close()


class Asked:
    """A teacher that counts what it is asked."""

    def __init__(self) -> None:
        self.candidates = self.lists = 0

    def __call__(self, impressions: Sequence[Impression]) -> list[list[float]]:
        self.lists += len(impressions)
        self.candidates += sum(len(one.candidates) for one in impressions)
        return [list(row) for row in world.by_hash(impressions)]


def run(log: Log, function=None, *, batch: int = 64, until: int = 10**9, **settings):  # type: ignore[no-untyped-def]
    teacher = FunctionTeacher(function or Asked(), "hash", "3", "logit")
    chosen, stop = ScoreSettings(batch=batch, wait_s=0.05, again=0, **settings), threading.Event()

    def progress(done: int, total: int | None) -> None:
        if done >= until:
            stop.set()

    return score_from(log, teacher, chosen, stop=stop, drain=True, progress=progress)


def rankings(log: Log) -> list[Ranking]:
    source = log.source(["rankings"])
    found = []
    while some := source.read(1000, 0.0):
        found += [decode(Ranking, message.value) for message in some]
    source.close()
    return found


def student_lists(count: int, *, seed: int = 0, length: int = 6) -> list[Impression]:
    """Lists that a student answered: it knows the teacher's mind, but for lists without a history."""
    rng = np.random.default_rng(seed)
    made = []
    for one in world.impressions(count, seed=seed, length=length):
        [scores] = world.by_hash([one])
        wrong = len(one.history) == 0
        given = rng.normal(size=len(scores)) if wrong else np.array(scores) + 0.01 * rng.normal(size=len(scores))
        candidates = tuple(Candidate(c.item, float(s)) for c, s in zip(one.candidates, given, strict=True))
        made.append(msgspec.structs.replace(one, candidates=candidates, origin="student", served_by="ab"))
    return made


def test_a_list_that_is_spared_still_has_its_ranking(log: Log) -> None:
    lists = world.impressions(400)
    feed(log, lists)
    teacher = Asked()
    counts = run(log, teacher, budget=0.3, budget_by="lists")
    made = rankings(log)
    assert [one.impression for one in made] == lists
    assert counts["rankings"] == 400
    scored = [one for one in made if any(one.scored)]
    assert all(all(one.scored) for one in scored)
    assert counts["asked"] == counts["scores"] == teacher.candidates == 6 * len(scored)
    assert counts["asked"] + counts["spared"] == 2400
    assert 0.24 < len(scored) / 400 < 0.36
    assert {one.sampled for one in made} == {float(np.float32(0.3))}  # known, so that the student can weigh by it
    assert {one.candidates_sampled for one in made} == {()}
    for one in scored:
        assert one.scores == pytest.approx(world.by_hash([one.impression])[0])


def test_a_share_of_the_candidates_of_each_list(log: Log) -> None:
    lists = world.impressions(700, length=10)
    feed(log, lists)
    teacher = Asked()
    counts = run(log, teacher, budget=0.5, budget_by="candidates")
    made = rankings(log)
    assert counts["asked"] == teacher.candidates == 5 * 700
    assert all(sum(one.scored) == 5 and one.sampled == 1 for one in made)
    assert {round(sum(one.candidates_sampled), 5) for one in made} == {5.0}
    early, late = made[:BLOCK], made[-100:]
    assert all(set(one.candidates_sampled) == {0.5} for one in early)  # nothing is known yet
    assert all(one.candidates_sampled.count(1.0) == 2 for one in late)
    for one in late:
        expected = world.by_hash([one.impression])[0]
        for got, true, is_scored, chance in zip(one.scores, expected, one.scored, one.candidates_sampled, strict=True):
            assert got == (pytest.approx(true) if is_scored else 0.0)
            assert is_scored or chance < 1


def test_short_lists_are_chosen_first_so_that_what_is_scored_has_an_order(log: Log) -> None:
    feed(log, world.impressions(1500))
    counts = run(log, budget=0.2, budget_by="candidates")
    sizes = Counter(sum(one.scored) for one in rankings(log))
    assert set(sizes) == {0, 4}
    assert counts["asked"] / (counts["asked"] + counts["spared"]) == pytest.approx(0.2, abs=0.02)


def test_whole_lists_are_drawn_by_chance_whatever_is_known(log: Log) -> None:
    """2,000 lists of which the student is wrong on some: each has the same chance, and the draws keep to it."""
    lists = student_lists(2000)
    chooser = Chooser(0.3, "lists")
    chosen = {}
    for offset, one in enumerate(lists):
        choice = chooser.choose(one, TP, offset)
        assert choice.chosen_L.all() or not choice.chosen_L.any()
        chosen[one.id] = choice.chosen_L.any(), not one.history
    for surprising in (False, True):
        drawn = [was for was, kind in chosen.values() if kind == surprising]
        assert len(drawn) > 200
        assert np.mean(drawn) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(drawn)))
    feed(log, lists)
    run(log, budget=0.3, budget_by="lists")
    assert restore(chooser, log, {TP: len(lists)}) == 0  # nothing that was seen counts
    later = student_lists(100, seed=5)
    fresh = Chooser(0.3, "lists")
    for offset, one in enumerate(later):
        assert fresh.choose(one, TP, offset).chosen_L.all() == chooser.choose(one, TP, 9000 + offset).chosen_L.all()


@pytest.mark.slow
def test_the_best_in_the_eyes_of_the_student_are_always_asked_about(log: Log) -> None:
    """Where the student answered, its own scores say which candidates the certain half of the budget goes to."""
    lists = student_lists(1500, length=10)
    feed(log, lists)
    run(log, budget=0.5, budget_by="candidates")
    for one in rankings(log)[BLOCK:]:
        given = [candidate.logged_score or 0.0 for candidate in one.impression.candidates]
        certain = np.flatnonzero(np.array(one.candidates_sampled) == 1.0)
        assert set(certain) == set(np.argsort(given)[-2:])
        assert np.array(one.scored)[certain].all()


@pytest.mark.slow
@pytest.mark.parametrize("by", ["lists", "candidates"])
def test_a_replay_and_a_restart_choose_the_same(tmp_path: Path, by: str) -> None:
    answered, shown = student_lists(3000, length=9), world.impressions(3000, length=9)
    lists = [one if n % 2 else other for n, (one, other) in enumerate(zip(answered, shown, strict=True))]
    found = []
    for name, runs in (("whole", [(64, 10**9)]), ("parts", [(7, 900), (100, 1200), (33, 10**9)])):
        log = open_world(tmp_path / f"{name}.sqlite", partitions=2)
        feed(log, lists)
        for batch, until in runs:  # a new scorer each time
            run(log, batch=batch, until=until, budget=0.3, budget_by=by)
        found.append(
            {one.impression.id: (one.sampled, one.candidates_sampled, one.scored, one.scores) for one in rankings(log)}
        )
        log.close()
    assert len(found[0]) == 3000
    assert found[0] == found[1]


def test_what_is_rebuilt_is_what_there_was_however_long_ago_it_began(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 32)
    lists = world.impressions(32 * (WINDOW + 12) + 5, length=9)
    feed(log, lists)
    run(log, budget=0.5, budget_by="candidates")
    whole = Chooser(0.5, "candidates")
    for offset, ranking in enumerate(rankings(log)):
        whole.learn(ranking, TP, offset)
    before = Chooser(0.5, "candidates")  # this block's own rankings count from the next one on
    for offset, ranking in enumerate(rankings(log)[: len(lists) - 5]):
        before.learn(ranking, TP, offset)
    again = Chooser(0.5, "candidates")
    taken = restore(again, log, {TP: len(lists)})
    assert 32 * WINDOW <= taken < 32 * (WINDOW + 1) + 5
    unlike, nothing = 0, Chooser(0.5, "candidates")
    for offset, one in enumerate(world.impressions(90, seed=9, length=9), len(lists)):
        expected = whole.choose(one, TP, offset).candidates_sampled
        if offset < len(lists) + 27:
            assert before.choose(one, TP, offset).candidates_sampled == expected
        assert again.choose(one, TP, offset).candidates_sampled == expected
        unlike += nothing.choose(one, TP, offset).candidates_sampled != expected
    assert unlike > 80  # what was rebuilt is what decides


def test_a_chooser_without_a_budget_to_keep_asks_for_everything() -> None:
    [one] = world.impressions(1)
    assert Chooser(1.0, "lists").choose(one, TP, 3).chosen_L.all()
    empty = msgspec.structs.replace(one, candidates=())
    assert Chooser(0.1, "lists").choose(empty, TP, 3).sampled == 1.0


def test_what_is_saved_is_counted(log: Log) -> None:
    lists = world.impressions(200)
    twice = [msgspec.structs.replace(one, id=f"again-{one.id}") for one in lists]
    feed(log, lists + twice)
    teacher = Asked()
    counts = run(log, teacher, budget=0.5, budget_by="lists", cache_mb=1, cost_per_1000=2.5)
    assert counts["cache_hits"] > 0
    assert counts["asked"] - counts["cache_hits"] == teacher.candidates
    assert counts["asked"] + counts["spared"] == 2400
    saved = counts["spared"] + counts["cache_hits"]
    assert counts["saved_cost_thousandths"] == round(2.5 * saved)
    assert counts["saved_ms"] == pytest.approx(counts["scoring_ms"] * saved / teacher.candidates, abs=1)


def test_a_cache_in_a_file_serves_the_next_run(tmp_path: Path) -> None:
    lists = world.impressions(100)
    asked = []
    for name in "ab":
        log = open_world(tmp_path / f"{name}.sqlite")
        feed(log, [*world.items(), *lists])
        teacher = Asked()
        counts = run(log, teacher, cache_mb=1, cache_file=str(tmp_path / "cache.sqlite"))
        assert len(rankings(log)) == 100
        asked.append((teacher.candidates, counts["cache_hits"]))
        log.close()
    assert asked == [(600, 0), (0, 600)]

"""The scorer under a budget: what it spares, what it learns, and that it chooses the same again."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import world

from recdistill.budget import choose
from recdistill.budget.choose import BLOCK, Chooser, groups, restore
from recdistill.config import LogSettings, ScoreSettings
from recdistill.loops import score
from recdistill.loops.feed import feed
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
    chosen, stop = ScoreSettings(batch=batch, wait_s=0.05, **settings), threading.Event()

    def progress(done: int, total: int | None) -> None:
        if done >= until:
            stop.set()

    return score.run(log, teacher, chosen, stop=stop, drain=True, progress=progress)


def rankings(log: Log) -> list[Ranking]:
    source = log.source(["rankings"])
    found = []
    while some := source.read(1000, 0.0):
        found += [decode(Ranking, message.value) for message in some]
    source.close()
    return found


def student_lists(count: int, *, seed: int = 0) -> list[Impression]:
    """Lists that a student answered: it knows the teacher's mind, but for every sixth list."""
    rng = np.random.default_rng(seed)
    made = []
    for one in world.impressions(count, seed=seed):
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
    assert all(0 < one.sampled < 1 for one in made)
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


@pytest.mark.slow
def test_a_teacher_is_asked_where_the_student_was_wrong_and_the_budget_is_kept(log: Log) -> None:
    lists = student_lists(5000)
    feed(log, lists)
    counts = run(log, budget=0.3, budget_by="lists")
    made = rankings(log)[BLOCK:]
    surprising = [one for one in made if not one.impression.history]
    known = [one for one in made if one.impression.history]
    assert 0.1 < len(surprising) / len(made) < 0.25
    assert np.mean([one.sampled for one in surprising]) > 2 * np.mean([one.sampled for one in known])
    assert min(one.sampled for one in made) >= 0.3 * choose.FLOOR - 1e-7
    assert np.mean([one.sampled for one in made]) == pytest.approx(0.3, abs=0.01)
    assert counts["asked"] / 30_000 == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_a_replay_and_a_restart_choose_the_same(tmp_path: Path) -> None:
    lists = student_lists(3000)
    found = []
    for name, runs in (("whole", [(64, 10**9)]), ("parts", [(7, 900), (100, 1200), (33, 10**9)])):
        log = open_world(tmp_path / f"{name}.sqlite", partitions=2)
        feed(log, lists)
        for batch, until in runs:  # a new scorer each time
            run(log, batch=batch, until=until, budget=0.3, budget_by="lists")
        found.append({one.impression.id: (one.sampled, one.scored, one.scores) for one in rankings(log)})
        log.close()
    assert len(found[0]) == 3000
    assert found[0] == found[1]


def test_what_is_rebuilt_is_what_there_was_however_long_ago_it_began(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "BLOCK", 32)
    monkeypatch.setattr(choose, "FEWEST", 8)
    lists = student_lists(32 * (choose.DEPTH + 12) + 5)
    feed(log, lists)
    run(log, budget=0.4, budget_by="lists")
    whole = Chooser(0.4, "lists")
    for offset, ranking in enumerate(rankings(log)):
        whole.learn(ranking, TP, offset)
    again = Chooser(0.4, "lists")
    taken = restore(again, log, {TP: len(lists)})
    assert 32 * choose.DEPTH <= taken < 32 * (choose.DEPTH + 1) + 5
    for offset, one in enumerate(student_lists(90, seed=9), len(lists)):
        assert whole.choose(one, TP, offset)[0] == again.choose(one, TP, offset)[0]


def test_a_chooser_without_a_budget_to_keep_asks_for_everything() -> None:
    [one] = world.impressions(1)
    assert Chooser(1.0, "lists").choose(one, TP, 3).chosen_L.all()
    empty = msgspec.structs.replace(one, candidates=())
    assert Chooser(0.1, "lists").choose(empty, TP, 3).sampled == 1.0


def test_batches_are_cut_where_a_block_ends(log: Log) -> None:
    feed(log, world.impressions(600))
    source = log.source(["impressions"])
    messages = source.read(600, 0.1)
    source.close()
    assert [len(group) for group in groups(messages)] == [256, 256, 88]
    assert [m for group in groups(messages) for m in group] == messages


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

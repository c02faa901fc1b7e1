"""Asking a teacher again: what rankings say of it, also after a kill, and what is told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.deaths import killed_again_and_again

from recdistill.config import LogSettings
from recdistill.loops import join, score
from recdistill.loops.again import KEPT, Again, Marks
from recdistill.loops.feed import feed
from recdistill.records import Candidate, Example, Impression, Item, Ranking, decode, encode
from recdistill.stream import CHECKS, Log, open_log, standard_topics
from recdistill.stream.testing import everything
from recdistill.teachers import CachedTeacher, Teacher, asked_again
from recdistill.teachers.ensemble import EnsembleTeacher
from recdistill.teachers.function import FunctionTeacher
from recdistill.teachers.logged import LoggedTeacher

Function = Callable[[Sequence[Impression]], Any]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    yield log
    log.close()


def said(log: Log) -> list[float | None]:
    """What each ranking says of its teacher, rounded as it was written."""
    found = [decode(Ranking, message.value).self_agreement for message in everything(log, "rankings")]
    return [None if one is None else round(one, 2) for one in found]


def named(function: Function, version: str = "1") -> FunctionTeacher:
    return FunctionTeacher(function, "t", version, "unbounded")


def run(log: Log, teacher: Function | Teacher = world.by_hash, **more: Any) -> Any:
    whom = teacher if hasattr(teacher, "score") else named(teacher)  # type: ignore[arg-type]
    arguments = {"batch": 100, "again": 4, "wait_s": 0.05, "stop": threading.Event(), "drain": True, **more}
    return score.run(log, whom, **arguments)


def shuffled(lists: Sequence[Impression]) -> list[list[float]]:
    return [
        random.Random(one.id + "x").sample(row, len(row)) for one, row in zip(lists, world.by_hash(lists), strict=True)
    ]


def in_thousands(lists: Sequence[Impression]) -> list[list[float]]:
    return [[1000 * value for value in row] for row in world.by_hash(lists)]


def test_a_teacher_that_answers_alike_is_said_to_from_the_second_block_on(log: Log, caplog: Any) -> None:
    feed(log, [*world.items(), *world.impressions(600)])
    counts = run(log)
    found = said(log)
    assert found[:256] == [None] * 256
    assert found[256:] == [1.0] * 344
    assert counts["asked_again"] == 8  # four for each of two blocks
    assert len(everything(log, CHECKS.topic)) == KEPT
    assert [record for record in caplog.records if "again" in record.getMessage()] == []


@pytest.mark.slow
def test_a_teacher_that_changes_is_told_with_figures_and_written_on_its_rankings(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    lists = world.impressions(1700)
    feed(log, [*world.items(), *lists[:600]])
    run(log)
    feed(log, lists[600:1100])
    run(log, shuffled)  # a new process: the first answers are found in the log
    feed(log, lists[1100:])
    run(log, in_thousands)
    found = said(log)
    assert all(one is not None and one < 0.6 for one in found[600:1100])
    assert all(one == 1.0 for one in found[1100:])
    told = [record.getMessage() for record in caplog.records if "again" in record.getMessage()]
    changed, *_, rescaled = told
    assert changed.startswith(
        "teacher t@1 has changed: asked again about 4 lists, it agrees with its first answers at "
    )
    assert "of 24 scores differ" in changed
    assert "at 1.00 (2" in rescaled
    assert " of 24 scores differ; they were at " in rescaled
    # It reaches the distiller: the joiner hands it on.
    join.run(log, window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    examples = [decode(Example, message.value) for message in everything(log, "examples")]
    assert [e.ranking.self_agreement for e in examples] == [
        decode(Ranking, message.value).self_agreement for message in everything(log, "rankings")
    ]


@pytest.mark.slow
def test_what_rankings_say_does_not_depend_on_batches_kills_or_restarts(tmp_path: Path) -> None:
    """And neither does what is kept."""

    def noisy(lists: Sequence[Impression]) -> list[list[float]]:
        """Not alike, but of the request alone: half of the requests get another answer after list 900."""
        return shuffled(lists) if late and lists[0].id[-1] in "02468" else world.by_hash(lists)

    results, chance = [], random.Random(5)
    lists = world.impressions(1500)
    for batches in ([1000], [7], [64], None):
        late = False
        log = open_log(LogSettings(path=str(tmp_path / f"{batches}.sqlite")))
        log.create_topics(standard_topics())
        feed(log, world.items())
        for part in (lists[:900], lists[900:]):
            feed(log, part)
            if batches is None:
                killed_again_and_again(
                    lambda die, log=log: run(  # type: ignore[misc]
                        log, lambda some: [noisy([one])[0] for one in some], batch=33, progress=die
                    ),
                    times=12,
                    after=lambda: chance.randrange(1, 4),
                )
            run(log, lambda some: [noisy([one])[0] for one in some], batch=(batches or [100])[0])
            late = True
        kept = [(m.key, m.headers, decode(Ranking, m.value).impression.id) for m in everything(log, CHECKS.topic)]
        results.append((said(log), kept))
        log.close()
    assert all(result == results[0] for result in results)
    assert {one for one in results[0][0] if one is not None} != {1.0}


def test_a_request_is_asked_again_only_while_its_items_are_what_they_were(log: Log) -> None:
    """A teacher that scores by the price is right to say something else when a price changes."""
    prices: dict[str, float] = {}

    def by_price(lists: Sequence[Impression]) -> list[list[float]]:
        return [[prices.get(c.item, 0.0) for c in one.candidates] for one in lists]

    def take(items: Sequence[Item]) -> None:
        prices.update({item.id: float(item.attributes["price"]) for item in items})  # type: ignore[arg-type]

    by_price.apply_items = take  # type: ignore[attr-defined]
    lists = world.impressions(1400)
    feed(log, [*(Item(f"item-{n}", 1, attributes={"price": n}) for n in range(20)), *lists[:600]])
    run(log, by_price)
    # The same prices in new records, and another price for one item.
    feed(log, [*(Item(f"item-{n}", 2, attributes={"price": n}) for n in range(20)), *lists[600:1000]])
    run(log, by_price)
    feed(log, [Item("item-3", 3, attributes={"price": 99}), *lists[1000:]])
    counts = run(log, by_price)
    assert set(said(log)[256:]) == {1.0}
    assert counts["asked_again"] > 0
    newest = {m.key: decode(Ranking, m.value) for m in everything(log, CHECKS.topic)}
    assert len(newest) == KEPT  # and what was forgotten was replaced
    late = [r for r in newest.values() if int(r.impression.id.split("-")[1]) >= 1000]
    assert len(late) > 20


def test_of_a_new_version_new_answers_are_kept(log: Log) -> None:
    lists = world.impressions(1300)
    feed(log, [*world.items(), *lists[:600]])
    run(log)
    feed(log, lists[600:])
    run(log, named(shuffled, "2"))
    found = said(log)
    began = found.index(1.0, 600)
    assert 760 <= began <= 768  # the rest of the block in which it came
    assert found[600:began] == [None] * (began - 600)
    assert set(found[began:]) == {1.0}
    newest = {m.key: decode(Ranking, m.value).teacher_version for m in everything(log, CHECKS.topic)}
    assert set(newest.values()) == {"2"}


def test_under_a_budget_the_part_is_asked_again_that_was_asked_first(log: Log) -> None:
    feed(log, [*world.items(), *world.impressions(700, length=9)])
    seen: list[Impression] = []

    def by_place(lists: Sequence[Impression]) -> list[list[float]]:
        """A score depends on the whole list."""
        seen.extend(lists)
        return [[float(len(one.candidates) * place) for place in range(len(one.candidates))] for one in lists]

    counts = run(log, by_place, budget=0.5)
    assert set(said(log)[256:]) == {1.0}
    assert counts["asked_again"] == 8
    times: dict[str, set[tuple[Candidate, ...]]] = {}
    for one in seen:
        times.setdefault(one.id, set()).add(one.candidates)
    assert all(len(lists) == 1 for lists in times.values())


def test_a_cache_does_not_answer_for_its_teacher(log: Log) -> None:
    lists = world.impressions(900)
    feed(log, [*world.items(), *lists[:600]])
    run(log, CachedTeacher(named(world.by_hash), megabytes=10))
    feed(log, lists[600:])
    cache = CachedTeacher(named(shuffled), megabytes=10)
    cache.score(lists[:600])  # all of it is known
    run(log, cache)
    assert max(one for one in said(log)[600:] if one is not None) < 0.6


def test_logged_scores_are_not_asked_again(log: Log) -> None:
    logged = LoggedTeacher("ranker", "7", "logit")
    assert not asked_again(logged)
    assert not asked_again(EnsembleTeacher("both", [(logged, 1.0), (logged, 2.0)]))
    assert asked_again(EnsembleTeacher("both", [(logged, 1.0), (named(world.by_hash), 2.0)]))
    lists = [
        msgspec.structs.replace(
            one, candidates=tuple(Candidate(c.item, float(n)) for n, c in enumerate(one.candidates))
        )
        for one in world.impressions(300)
    ]
    feed(log, lists)
    run(log, logged)
    assert set(said(log)) == {None}
    assert everything(log, CHECKS.topic) == []


def test_a_log_of_an_older_version_goes_on_without_the_topic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics({name: count for name, count in standard_topics().items() if name != CHECKS.topic})
    feed(log, [*world.items(), *world.impressions(600)])
    run(log)
    assert set(said(log)[256:]) == {1.0}
    assert "there is no topic" not in caplog.text
    assert "recdistill topics create" in caplog.text
    log.close()


def test_records_that_cannot_be_used_are_passed_over(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    whole = Ranking(world.impressions(1)[0], "t", "1", "logit", (0.0,) * 6, (True,) * 6)
    stage = log.stage("hostile")
    with stage.transaction() as transaction:
        for key, value, headers in (
            (b"0/0", b"junk", ()),
            (b"x", b"", (("block", b"1"), ("items", b"123"))),
            (b"0/1", None, ()),
            (b"x/y", encode(whole), (("block", b"0"), ("items", b""))),
            (b"\xff", encode(whole), (("block", b"0"), ("items", b""))),
        ):
            transaction.send(CHECKS.topic, value, key=key, partition=0, headers=headers)
    stage.close()
    feed(log, [*world.items(), *world.impressions(600)])
    run(log)
    assert set(said(log)[256:]) == {1.0}
    assert caplog.text.count("cannot be used") == 5


def test_many_partitions_share_what_is_kept(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=8))
    again = Again(log, named(world.by_hash), each=4, partitions=8)
    assert again._room == KEPT // 8
    log.close()


def test_marks_have_a_fixed_size_and_know_withdrawn_items() -> None:
    marks = Marks()
    marks.apply([Item("a"), Item("b", withdrawn=True)])
    a, b, c = marks.of(["a", "b", "c"])
    assert a != 0
    assert b not in (0, a)
    assert c == 0

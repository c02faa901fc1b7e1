"""What the watch does in a distiller: the same after a kill and from memory, and told once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import world
from support.deaths import killed_again_and_again
from support.distilling import SPEC, assert_same_state, copied, settings

from recdistill.config import (
    DistilSettings,
    LogSettings,
    LossSettings,
    StudentSettings,
    WatchSettings,
)
from recdistill.loops import join, score
from recdistill.loops.feed import feed
from recdistill.loops.wire import distil_from
from recdistill.records import Feedback, Impression
from recdistill.stream import Log, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher


def by_number(lists: Sequence[Impression]) -> list[list[float]]:
    """A teacher that a student learns within a few batches, so that it is missed when it is gone."""
    return [[float(c.item.split("-")[1]) for c in i.candidates] for i in lists]


def at_random(lists: Sequence[Impression]) -> list[list[float]]:
    return [[20_000 * random.Random(f"{i.id} {c.item}").random() for c in i.candidates] for i in lists]


def in_thousands(lists: Sequence[Impression]) -> list[list[float]]:
    return [[1000 * score + 5 for score in scores] for scores in by_number(lists)]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,400 lists of a teacher that is sound, changes its unit, talks nonsense, and is replaced; two lanes."""
    path = tmp_path_factory.mktemp("events") / "eventful.sqlite"
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(partitions=2, lanes=2))
    lists = world.impressions(1400, length=9)
    feed(log, world.items())
    for start, end, function, version in (
        (0, 300, by_number, "1"),
        (300, 500, in_thousands, "1"),
        (500, 1050, at_random, "1"),
        (1050, 1400, by_number, "2"),
    ):
        feed(log, lists[start:end])
        teacher = FunctionTeacher(function, "t", version, "unbounded")
        score.run(log, teacher, batch=64, wait_s=0.05, stop=threading.Event(), drain=True)
    feed(log, [best_taken(one) for one in lists if one.time_us % 3])
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    log.close()
    return path


@pytest.fixture
def eventful(events: Path, tmp_path: Path) -> Iterator[Log]:
    yield from copied(events, tmp_path)


def best_taken(asked: Impression) -> Feedback:
    item = max((c.item for c in asked.candidates), key=lambda name: int(name.split("-")[1]))
    return Feedback(f"f-{asked.id}", asked.id, item, "click", asked.time_us + world.SECOND)


FAST = StudentSettings(dim=4, hidden=8, context_dim=4, embedding_learning_rate=0.5, id_dropout=0.0)


def eventful_run(  # type: ignore[no-untyped-def]
    log: Log, chosen: DistilSettings, watch: WatchSettings | None = None, **more: object
):
    arguments = {"stop": threading.Event(), "drain": True, **more}
    watch = watch or WatchSettings(act="quarantine", probation=100)
    return distil_from(log, SPEC, FAST, LossSettings(), chosen, watch, **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_by_default_a_teacher_that_seems_to_change_is_told_of_and_learnt(
    eventful: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = eventful_run(eventful, settings(tmp_path / "s", batch=16), WatchSettings())
    assert counts["quarantined_lists"] == counts["probation_lists"] == 0
    said = [record.getMessage() for record in caplog.records if "teacher t@" in record.getMessage()]
    assert any(one.startswith("teacher t@1 may have changed, from list ") for one in said)
    assert any("it is still learnt from (watch.act is notice)" in one for one in said)


@pytest.mark.slow
@pytest.mark.parametrize("passes", [1, 3])
def test_what_the_watch_does_is_the_same_after_a_kill_and_from_memory(
    eventful: Log, tmp_path: Path, passes: int, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"passes": passes, "batch": 16, "checkpoint_every": 3}
    counts = eventful_run(eventful, settings(tmp_path / "whole", **chosen))
    said = [record.getMessage() for record in caplog.records if "teacher t@" in record.getMessage()]
    assert ["jumped" in s for s in said] == [True, False, False, False]
    assert ["t@1 is quarantined" in s for s in said] == [False, True, False, False]
    assert ["t@2 is on probation" in s for s in said] == [False, False, True, False]
    assert ["t@2 is learnt from" in s for s in said] == [False, False, False, True]
    assert counts["normalised"] == 1
    assert 480 * passes < counts["quarantined_lists"] == counts["quarantined_lists_order"] <= 560 * passes
    assert 80 <= counts["probation_lists"] <= 100

    chance = random.Random(passes)
    killed = killed_again_and_again(
        lambda die: eventful_run(eventful, settings(tmp_path / "killed", **chosen), progress=die),
        times=5,
        after=lambda: chance.randrange(4, 40 * passes),
    )
    eventful_run(eventful, settings(tmp_path / "killed", **chosen))
    assert killed >= 3
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    eventful_run(eventful, settings(tmp_path / "read", memory_mb=0, **chosen))
    assert_same_state(tmp_path / "whole", tmp_path / "read")


@pytest.mark.slow
def test_a_resumed_distiller_says_who_is_quarantined(
    eventful: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop, chosen = threading.Event(), settings(tmp_path / "s", batch=16, checkpoint_every=1)
    eventful_run(eventful, chosen, stop=stop, progress=lambda done, total: stop.set() if done >= 700 else None)
    caplog.clear()
    eventful_run(eventful, chosen)
    assert "teacher t@1 is quarantined: its order agreed with the student" in caplog.records[0].getMessage()

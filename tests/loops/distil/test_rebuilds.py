"""A student that is made anew after a drift: when, from which examples, and the same after any kill."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from support import world
from support.deaths import killed_again_and_again
from support.distilling import SPEC, STUDENT, assert_same_state, copied, final, joined, scored, settings

from recdistill.config import LogSettings, LossSettings, WatchSettings
from recdistill.errors import OutOfRange
from recdistill.hops import Counts
from recdistill.loops.distil.rebuilds import Mark
from recdistill.loops.distil.saved import Saved
from recdistill.loops.feed import feed
from recdistill.loops.wire import distil_from
from recdistill.stream import Log, open_log, standard_topics

WATCH = WatchSettings(drift_lists=80)
SHORT_FROM, ALL = 160, 320


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of six candidates, and from half-way on lists of two."""
    path = tmp_path_factory.mktemp("written") / "log.sqlite"
    log = open_log(LogSettings(path=str(path)))
    log.create_topics(standard_topics(partitions=1, lanes=2))
    lists = world.impressions(ALL)
    short = [msgspec.structs.replace(one, candidates=one.candidates[:2]) for one in lists[SHORT_FROM:]]
    feed(log, [*world.items(20), *lists[:SHORT_FROM], *short])
    scored(log)
    joined(log)
    log.close()
    return path


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Iterator[Log]:
    yield from copied(written, tmp_path)


def run(log: Log, directory: Path, *, rebuild: int, **more: object) -> Counter[str]:
    chosen = settings(directory, rebuild_lists=rebuild)
    arguments = {"stop": threading.Event(), "drain": True, **more}
    return distil_from(log, SPEC, STUDENT, LossSettings(), chosen, WATCH, **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_after_a_drift_it_is_made_anew_and_catches_up(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = run(log, tmp_path / "anew", rebuild=64)
    assert counts["rebuilds"] == 1
    said = [record.getMessage() for record in caplog.records]
    [anew] = [one for one in said if one.startswith("the student is made anew from its newest ")]
    assert "because the inputs have drifted from list " in anew
    assert "list lengths (stability index " in anew
    plain = run(log, tmp_path / "plain", rebuild=0)
    again = counts["examples"] - plain["examples"]  # the newest examples were learnt once more
    assert 64 <= again <= 64 + 2 * 8
    one, two = final(tmp_path / "anew"), final(tmp_path / "plain")
    assert one.state["stream"]["examples"] == two.state["stream"]["examples"] == ALL
    assert one.state["stream"]["lanes"] == two.state["stream"]["lanes"]
    assert one.state["stream"]["range"] is None
    assert one.tensors["weights/id"].tobytes() != two.tensors["weights/id"].tobytes()


def _left(counts: Counts) -> int:
    [line] = [line for line in counts.lines() if line.startswith("recdistill_rebuild_left ")]
    return int(line.split()[1])


@pytest.mark.slow
def test_while_it_is_made_anew_the_metrics_say_how_much_is_left(log: Log, tmp_path: Path) -> None:
    counts, seen = Counts(), list[tuple[int, int]]()
    run(
        log,
        tmp_path / "anew",
        rebuild=64,
        counts=counts,
        progress=lambda *_: seen.append((counts["rebuilds"], _left(counts))),
    )
    assert {left for rebuilds, left in seen if not rebuilds} == {0}
    after = [left for rebuilds, left in seen if rebuilds]
    assert after[0] >= 64, "as many offsets as examples, at least"
    caught_up = after.index(0)
    assert caught_up >= 64 // 8 - 1
    assert after[:caught_up] == sorted(after[:caught_up], reverse=True)
    assert set(after[caught_up:]) == {0}, "the rest of the log is new to it"


@pytest.mark.slow
def test_without_the_setting_a_drift_is_only_told(log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figures = Counts()
    counts = run(log, tmp_path / "plain", rebuild=0, counts=figures)
    assert counts["rebuilds"] == 0
    assert counts["drift_inputs"] == 1
    assert ("inputs", "list lengths") in figures.drift
    assert any(record.getMessage().startswith("the inputs have drifted") for record in caplog.records)
    assert "marks" not in final(tmp_path / "plain").state["stream"]


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_bytes(log: Log, tmp_path: Path) -> None:
    counts = run(log, tmp_path / "whole", rebuild=64)
    chance = random.Random(1)
    killed = killed_again_and_again(
        lambda die: run(log, tmp_path / "killed", rebuild=64, progress=die),
        times=8,
        after=lambda: chance.randrange(6, 14),
    )
    run(log, tmp_path / "killed", rebuild=64)
    assert killed >= 3
    assert counts["rebuilds"] == 1
    assert_same_state(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_the_log_is_kept_back_to_where_it_would_begin(log: Log, tmp_path: Path) -> None:
    run(log, tmp_path / "anew", rebuild=64)
    stream = final(tmp_path / "anew").state["stream"]
    behind = stream["examples"] - stream["marks"][0]["examples"]
    assert 64 <= behind <= 64 + 64 // 8 + 8


@pytest.mark.slow
def test_where_the_log_was_cut_it_begins_at_the_oldest_mark_that_is_there(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The mark before the newest examples points behind the beginning of the log."""
    from recdistill.loops.distil.anew import begun_anew

    run(log, tmp_path / "plain", rebuild=0)
    found = final(tmp_path / "plain")
    saved = Saved.restored(found.state["stream"], found.path)
    saved.recipe = msgspec.structs.replace(saved.recipe, rebuild=64)
    saved.marks = [Mark(ALL - 100, 0, saved.lanes), Mark(ALL - 40, 0, saved.lanes)]
    asked: list[int] = []

    def seek(_: object) -> None:
        asked.append(len(asked))
        if len(asked) == 1:
            raise OutOfRange("examples-0", "holds the offsets 9 to 12, not 3")

    trainer = SimpleNamespace(watch=None, state_anew=lambda _: ({}, {}))
    fresh = SimpleNamespace(watch=None, restore=lambda *_: None)
    made = begun_anew(saved, trainer, ["drift"], fresh=lambda _: fresh, seek=seek)  # type: ignore[arg-type]
    assert made is fresh
    assert saved.range is not None
    assert saved.rebuilt == ALL
    assert len(asked) == 3  # the old mark, back again, and the next one
    said = [record.getMessage() for record in caplog.records]
    assert any(one.startswith("the student cannot be made anew from there: ") for one in said)
    assert any("made anew from its newest 40 examples" in one for one in said)

"""Bundles are sent, then announced; a store that is away stops nothing; a killed distiller announces again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from recdistill.bundle import Bundle
from recdistill.config import LogSettings
from recdistill.errors import Fenced, RegistryError, StreamError, UsageError
from recdistill.loops.announce import Announcer
from recdistill.stream import (
    BUNDLES,
    LanePosition,
    Log,
    LogIdentity,
    MadeBundle,
    made_bundles,
    open_log,
    standard_topics,
)
from references.students import make_student

LANES = LanePosition(LogIdentity("log", {"examples": 1}), (7,), 0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics())
    yield log
    log.close()


def exported(folder: Path, step: int) -> Bundle:
    positions = {"lanes": msgspec.to_builtins(LANES), "items": 5}
    provenance = {"step": step, "positions": positions, "made_at": "2026-01-02T03:04:05+00:00"}
    return make_student(12, seed=step).export(folder / f"step-{step:010d}", provenance=provenance, base_position=5)


def announced(log: Log) -> list[MadeBundle]:
    source = log.source([BUNDLES])
    found, unreadable = made_bundles(source)
    source.close()
    assert unreadable == []
    return found


def test_a_bundle_is_sent_before_it_is_announced(log: Log, tmp_path: Path) -> None:
    bundle = exported(tmp_path, 8)
    sent = []
    announcer = Announcer(log, lambda one: sent.append((one.content_hash, announced(log))))
    announcer.begin("student", tmp_path / "bundles")
    announcer(bundle)
    assert sent == [(bundle.content_hash, [])]
    assert announced(log) == [
        MadeBundle(
            bundle.content_hash,
            step=8,
            lanes=LANES,
            items=5,
            made_at="2026-01-02T03:04:05+00:00",
            size=bundle.size,
        )
    ]
    announcer.close()


def test_a_store_that_is_away_stops_nothing(log: Log, tmp_path: Path) -> None:
    away, counts = [True], Counter[str]()

    def put(_: Bundle) -> None:
        if away:
            raise RegistryError("the server does not answer")

    announcer = Announcer(log, put, counts)
    announcer.begin("student", tmp_path / "bundles")
    announcer(exported(tmp_path, 8))
    assert (counts["unsent_bundles"], announced(log)) == (1, [])
    away.clear()
    announcer(exported(tmp_path, 16))
    assert [made.step for made in announced(log)] == [16]
    announcer.close()


def test_a_registry_that_is_down_for_ten_minutes_gets_the_bundle_afterwards(log: Log, tmp_path: Path) -> None:
    """No newer bundle comes: the one that could not be sent is sent again, by the clock."""
    away, now, tried, counts = [True], [0.0], [0], Counter[str]()

    def put(_: Bundle) -> None:
        tried[0] += 1
        if away:
            raise RegistryError("the server does not answer")

    announcer = Announcer(log, put, counts, clock=lambda: now[0])
    announcer.begin("student", tmp_path / "bundles")
    assert not announcer.due()
    bundle = exported(tmp_path, 8)
    announcer(bundle)
    for second in range(600):
        now[0] = float(second)
        if announcer.due():
            announcer.again()
    assert (tried[0], announced(log)) == (20, [])
    away.clear()
    now[0] = 630.0
    assert announcer.due()
    announcer.again()
    assert [made.content_hash for made in announced(log)] == [bundle.content_hash]
    assert not announcer.due()
    announcer.close()


def test_a_distiller_that_was_killed_announces_what_it_is_not_sure_of(log: Log, tmp_path: Path) -> None:
    sent: list[str] = []
    folder = tmp_path / "bundles"
    announcer = Announcer(log, lambda bundle: sent.append(bundle.content_hash))
    announcer.begin("student", folder)  # its first start
    old, new = exported(folder, 8), exported(folder, 16)
    announcer.resume(folder)
    announcer.resume(folder)
    assert sent == [new.content_hash]
    assert [made.step for made in announced(log)] == [16]
    (new.path / "popular.json").write_text("damaged")
    announcer.resume(folder)
    announcer(old)
    announcer(old)
    assert [made.step for made in announced(log)] == [16, 8]
    announcer.close()


def test_a_second_distiller_fences_the_first(log: Log, tmp_path: Path) -> None:
    bundle = exported(tmp_path, 8)
    first, second, other = (Announcer(log, lambda bundle: None) for _ in range(3))
    first.begin("student", tmp_path / "bundles")
    second.begin("student", tmp_path / "bundles")
    other.begin("another student", tmp_path / "elsewhere")
    with pytest.raises(Fenced):
        first(bundle)
    second(bundle)
    assert len(announced(log)) == 1
    other(bundle)  # a student of its own, which fences nobody
    for announcer in (first, second, other):
        announcer.close()


def test_nothing_is_announced_before_the_folder_is_owned(log: Log, tmp_path: Path) -> None:
    """A distiller that is refused, since another one owns the folder, must not fence that one."""
    announcer = Announcer(log, lambda bundle: None)
    with pytest.raises(UsageError, match="before `begin`"):
        announcer(exported(tmp_path, 8))
    announcer.close()


def test_a_log_of_an_older_version_is_refused_before_any_training(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "old.sqlite")))
    log.create_topics({"examples": 1})
    with pytest.raises(StreamError, match="topics create"):
        Announcer(log, lambda bundle: None)
    log.close()


def test_a_silent_one_only_sends(log: Log, tmp_path: Path) -> None:
    """Those of the control: also the newest of the folder, which nobody knows to be in the store."""
    sent: list[str] = []
    bundle = exported(tmp_path / "bundles", 8)
    announcer = Announcer(log, lambda one: sent.append(one.content_hash), silent=True)
    with pytest.raises(UsageError, match="before `begin`"):
        announcer(bundle)
    announcer.begin("student", tmp_path / "bundles")
    announcer(exported(tmp_path / "bundles", 9))
    assert len(sent) == 2
    assert sent[0] == bundle.content_hash
    assert announced(log) == []
    announcer.close()


def test_a_control_s_store_is_made_at_the_beginning_or_when_the_registry_answers(log: Log, tmp_path: Path) -> None:
    now, made_at = [0.0], []
    away = [True]

    def place() -> None:
        if away[0]:
            raise RegistryError("no answer")
        made_at.append(now[0])

    announcer = Announcer(log, lambda _: 0, clock=lambda: now[0], silent=True, place=place)
    assert not announcer.due()
    announcer.begin("student", tmp_path / "bundles")
    assert not announcer.due()
    now[0] = 31.0
    assert announcer.due()
    announcer.again()
    assert not announcer.due()
    away[0], now[0] = False, 62.0
    announcer.again()
    assert made_at == [62.0]
    now[0] = 1000.0
    assert not announcer.due()
    announcer.again()
    assert made_at == [62.0], "once"
    announcer.close()

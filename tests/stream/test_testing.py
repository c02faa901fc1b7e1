"""Stopped at any step and resumed: exactly the committed records are visible, and the positions match them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.stream import Log, TopicPartition, open_log
from recdistill.stream.testing import Abort, AbortingLog

INPUTS = [TopicPartition("in", 0), TopicPartition("in", 1)]
RECORDS = 12


def copy(log: Log, batch: int) -> None:
    """A stage as the loops write them: each input once to the output, positions in the same transaction."""
    stage = log.stage("copy", INPUTS)
    source = log.source(INPUTS, stage.position())
    ends = {tp: source.bounds(tp)[1] for tp in INPUTS}
    try:
        while any(source.position()[tp] < end for tp, end in ends.items()):
            messages = source.read(batch, timeout_s=0.5)
            with stage.transaction() as transaction:
                for message in messages:
                    transaction.send("out", message.value, key=message.key)
                transaction.commit_inputs(source.position(), f"{stage.note()}{len(messages)} ")
    finally:
        source.close()
        stage.close()


def read_all(log: Log) -> list[bytes | None]:
    source = log.source(["out"])
    tp = TopicPartition("out", 0)
    values = []
    while source.position()[tp] < source.bounds(tp)[1]:
        values += [message.value for message in source.read(100, timeout_s=0.5)]
    source.close()
    return values


def check(log: Log, *, finished: bool) -> None:
    """What is visible in the output is exactly what the committed positions say was read."""
    stage = log.stage("copy", INPUTS)
    position, note = stage.position(), stage.note()
    stage.close()
    source = log.source(INPUTS)
    passed = []
    for tp in INPUTS:
        while source.position()[tp] < source.bounds(tp)[1]:
            passed += [m.value for m in source.read_from(tp, 100, timeout_s=0.5) if m.offset < position[tp]]
    source.close()
    assert sorted(read_all(log)) == sorted(passed)
    assert sum(map(int, note.split())) == len(passed)
    if finished:
        assert len(passed) == RECORDS


def fill(log: Log) -> None:
    log.create_topics({"in": 2, "out": 1})
    stage = log.stage("fill")
    for first in range(0, RECORDS, 3):
        with stage.transaction() as transaction:
            for n in range(first, first + 3):
                transaction.send("in", b"%d" % n, key=b"%d" % n)
    stage.close()


def stop_after(log: Log, at: int | None, batch: int) -> list[str]:
    double = AbortingLog(log, at)
    try:
        copy(double, batch)
    except Abort:
        assert at is not None
        assert len(double.steps) == at
    return double.steps


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 5])
def test_stopped_at_each_step_in_turn(tmp_path: Path, batch: int) -> None:
    with_all_steps = open_log(LogSettings(path=str(tmp_path / "all.sqlite")))
    fill(with_all_steps)
    steps = stop_after(with_all_steps, None, batch)
    check(with_all_steps, finished=True)
    with_all_steps.close()
    assert {step.split()[0] for step in steps} == {"read", "send", "commit_inputs", "commit", "committed"}
    for at in range(len(steps)):
        log = open_log(LogSettings(path=str(tmp_path / f"{at}.sqlite")))
        fill(log)
        assert stop_after(log, at, batch) == steps[:at]
        check(log, finished=False)
        stop_after(log, None, batch)
        check(log, finished=True)
        log.close()


@pytest.fixture
def log(settings: LogSettings) -> Iterator[Log]:
    opened = open_log(settings)
    yield opened
    opened.close()


def test_stopped_at_random_again_and_again(log: Log) -> None:
    fill(log)
    chance = random.Random(5)
    stops = 0
    for _ in range(10):
        at = chance.randrange(14)
        stops += len(stop_after(log, at, batch=2)) == at
        check(log, finished=False)
    assert stops >= 5
    stop_after(log, None, batch=2)
    check(log, finished=True)
    assert sorted(read_all(log)) == sorted(b"%d" % n for n in range(RECORDS))


def test_a_dead_double_does_nothing_more(tmp_path: Path) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    fill(log)
    double = AbortingLog(log, at=2)
    with pytest.raises(Abort, match="step 2"):
        copy(double, 5)
    with pytest.raises(Abort, match="step 2"):
        double.source(["in"]).read()
    log.close()

"""What is counted for the judge goes with the student: through kills, passes, a warm start, and old checkpoints."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deaths import killed_again_and_again
from support.distilling import copied, final, more, run, settings, write_log

from recdistill import checkpoint
from recdistill.bundle import open_bundle
from recdistill.errors import CheckpointError
from recdistill.linear import TALLY, Tally
from recdistill.loops.distil.warm import tally_of
from recdistill.records import Example, decode
from recdistill.stream import Log


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("written") / "log.sqlite")


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Iterator[Log]:
    yield from copied(written, tmp_path)


def counts_of(student: Path) -> Tally:
    return Tally.of(final(student).read(TALLY))


def beside(student: Path) -> bytes:
    return open_bundle(sorted((student / "bundles").iterdir())[-1]).read(TALLY)


def test_each_labelled_list_is_counted_once_and_travels_with_the_bundle(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    values = [message.value for message in log.source(["examples"]).read(10_000, 1.0) if message.value]
    labelled = sum(any(decode(Example, value).labels) for value in values)
    found = counts_of(tmp_path / "s")
    assert found.lists == labelled > 30
    assert (found.asked.lists, found.began) == (150, 0)
    assert beside(tmp_path / "s") == final(tmp_path / "s").read(TALLY)
    run(log, settings(tmp_path / "three", passes=3))  # later passes count for nothing
    assert final(tmp_path / "three").read(TALLY) == final(tmp_path / "s").read(TALLY)


@pytest.mark.slow
def test_kills_change_no_count(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "whole"))
    chance = random.Random(4)
    killed = killed_again_and_again(
        lambda die: run(log, settings(tmp_path / "killed", checkpoint_every=3), progress=die),
        times=6,
        after=lambda: chance.randrange(2, 9),
    )
    run(log, settings(tmp_path / "killed"))
    assert killed >= 3
    assert final(tmp_path / "killed").read(TALLY) == final(tmp_path / "whole").read(TALLY)


@pytest.mark.slow
def test_a_student_of_an_older_version_begins_to_count_and_says_where(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "old"))
    before = final(tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "checkpoints")
    checkpoint.save(tmp_path / "old" / "checkpoints", before.step, before.tensors, before.state)
    more(log, 60, seed=5)
    run(log, settings(tmp_path / "old"))
    found = counts_of(tmp_path / "old")
    assert (found.began, found.asked.lists) == (150, 60)
    assert Tally.of(beside(tmp_path / "old")).began == 150


@pytest.mark.slow
def test_a_warm_start_takes_the_counts_over(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "old"))
    before = counts_of(tmp_path / "old")
    [bundle] = (tmp_path / "old" / "bundles").iterdir()
    for name, source in (("student", tmp_path / "old"), ("bundle", bundle)):
        run(log, settings(tmp_path / name), warm=source)  # it learns the log once more, as its own
        found = counts_of(tmp_path / name)
        assert (found.lists, found.began) == (2 * before.lists, 0)


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    found = checkpoint.load(checkpoint.save(tmp_path / "checkpoints", 1, {}, {}, others={TALLY: b"nothing"}))
    with pytest.raises(CheckpointError, match=r"tally\.msgpack: the counts .* cannot be read: .*; restore it"):
        tally_of(found, 7)

"""A bundle that is learnt again from its log: the same content, or which input is gone."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support import distilling
from support.distilling import SPEC, more, run, settings

from recdistill.bundle import Bundle, made, open_bundle
from recdistill.config import LossSettings, StudentSettings
from recdistill.errors import DataError, Interrupted
from recdistill.loops.distil import Played, replay
from recdistill.loops.trainers import made_of
from recdistill.stream import Log


def newest(directory: Path) -> Bundle:
    return open_bundle(made(directory / "bundles")[-1])


def again(log: Log, bundle: Bundle, folder: Path, stop: threading.Event | None = None) -> Played:
    return replay(log, bundle, folder, partial(made_of, SPEC), stop=stop or threading.Event())


@pytest.mark.slow
def test_a_drained_student_comes_out_the_same(log: Log, tmp_path: Path) -> None:
    place = tmp_path / "student"
    run(log, settings(place, passes=2))
    before = log.positions()
    played = again(log, newest(place), tmp_path / "again")
    assert played.same, played
    assert played.notes == []
    assert log.positions() == before, "nothing was written to the log"


@pytest.mark.slow
def test_a_student_with_a_past_comes_out_the_same(log: Log, tmp_path: Path) -> None:
    """Drained twice, followed once, its settings changed, stopped in the middle and started again."""
    place = tmp_path / "student"
    run(log, settings(place))
    more(log, 40, seed=2)
    run(
        log,
        settings(place),
        LossSettings(soft=0.9),
        StudentSettings(dim=4, hidden=8, context_dim=4, learning_rate=0.01),
    )
    more(log, 50, seed=3)
    stop, steps = threading.Event(), 0

    def after(done: int, total: int | None) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            stop.set()

    run(log, settings(place, learn_within_s=0.0), drain=False, stop=stop, progress=after)
    more(log, 20, seed=4)
    run(log, settings(place, learn_within_s=0.0))
    bundle = newest(place)
    course = bundle.manifest.provenance["course"]
    assert len(course["events"]) >= 2
    assert len(course["runs"]) == 3
    assert again(log, bundle, tmp_path / "again").same


def test_another_log_gives_another_student_or_says_what_is_gone(log: Log, written: Path, tmp_path: Path) -> None:
    place = tmp_path / "student"
    run(log, settings(place))
    bundle = newest(place)
    other = distilling.write_log(tmp_path / "other.sqlite")
    from recdistill.config import LogSettings
    from recdistill.stream import open_log

    theirs = open_log(LogSettings(path=str(other)))
    with pytest.raises(DataError, match="a part of its log is gone"):
        again(theirs, bundle, tmp_path / "again")
    theirs.close()


@pytest.mark.slow
def test_a_warm_start_says_whose_weights_are_needed(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "old"))
    more(log, 20, seed=5)
    run(log, settings(tmp_path / "new"), warm=tmp_path / "old")
    with pytest.raises(DataError, match="cannot be made again from the log alone: the weights of"):
        again(log, newest(tmp_path / "new"), tmp_path / "again")


def test_a_bundle_of_an_older_version_says_that_it_does_not_know(log: Log, tmp_path: Path) -> None:
    from recdistill.bundle.manifest import make_manifest

    run(log, settings(tmp_path / "student"))
    bundle = newest(tmp_path / "student")
    said = {name: value for name, value in bundle.manifest.provenance.items() if name != "course"}
    import dataclasses

    old = dataclasses.replace(bundle, manifest=make_manifest(bundle.manifest.content, said))
    with pytest.raises(DataError, match="an older version made it"):
        again(log, old, tmp_path / "again")


def test_a_student_of_more_runs_than_are_noted_says_so(log: Log, tmp_path: Path) -> None:
    import dataclasses

    from recdistill.bundle.manifest import make_manifest

    run(log, settings(tmp_path / "student"))
    bundle = newest(tmp_path / "student")
    said = dict(bundle.manifest.provenance)
    said["course"] = {**said["course"], "runs_left_out": 12}
    cut = dataclasses.replace(bundle, manifest=make_manifest(bundle.manifest.content, said))
    with pytest.raises(DataError, match=r"its student went over 13 parts of the log.*only the newest 1 are noted"):
        again(log, cut, tmp_path / "again")


def test_it_can_be_stopped(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "student"))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        again(log, newest(tmp_path / "student"), tmp_path / "again", stop)


@pytest.mark.slow
def test_other_settings_give_another_content(log: Log, tmp_path: Path) -> None:
    """The comparison can fail."""
    import dataclasses

    from recdistill.bundle.manifest import make_manifest

    run(log, settings(tmp_path / "student"))
    bundle = newest(tmp_path / "student")
    said = msgspec.json.decode(msgspec.json.encode(bundle.manifest.provenance))
    said["course"]["events"][0]["settings"]["loss"]["soft"] = 0.123
    other = dataclasses.replace(bundle, manifest=make_manifest(bundle.manifest.content, said))
    assert not again(log, other, tmp_path / "again").same

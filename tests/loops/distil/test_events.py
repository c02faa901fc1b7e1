"""Settings of a living student change at a step; kills and lost checkpoints do not move the change."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from support import distilling
from support.distilling import STUDENT, final, settings

from recdistill.config import LossSettings
from recdistill.errors import CheckpointError
from recdistill.loops.distil.events import NAME, ahead, changed, refuse, write
from recdistill.stream import Log


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Killed(Exception):
    """The process is gone."""


FASTER = msgspec.structs.replace(STUDENT, embedding_learning_rate=0.2, learning_rate=0.01)
HEAVIER = LossSettings(soft=0.9, label=0.5)


def before(log: Log, place: Path, **more: Any) -> None:
    """The first six steps, with the first settings."""
    stop, steps = threading.Event(), []

    def look(done: int, total: int | None) -> None:
        steps.append(done)
        if len(steps) == 6:
            stop.set()

    distilling.run(log, settings(place, keep=9), stop=stop, progress=look, **more)
    assert final(place).step == 6


def after(log: Log, place: Path, *, die_after: int = 0) -> None:
    """The rest, with other rates, weights, batch and threads; killed after some steps, if so wanted."""
    left = die_after

    def look(done: int, total: int | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    chosen = settings(place, batch=5, threads=2, checkpoint_every=4, keep=9)
    distilling.run(log, chosen, HEAVIER, FASTER, progress=look)


@pytest.mark.slow
def test_settings_that_changed_at_a_step_are_the_same_event_after_kills_and_from_an_older_checkpoint(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before(log, tmp_path / "calm")
    shutil.copytree(tmp_path / "calm", tmp_path / "killed")
    after(log, tmp_path / "calm")
    for die_after in (1, 3, 7):
        with pytest.raises(Killed):
            after(log, tmp_path / "killed", die_after=die_after)
    after(log, tmp_path / "killed")
    distilling.assert_same_state(tmp_path / "calm", tmp_path / "killed")
    events = final(tmp_path / "calm").state["stream"]["events"]
    assert [one["step"] for one in events] == [0, 6]
    assert changed(events[0]["recipe"], events[1]["recipe"]) == {
        "batch": (8, 5),
        "threads": (1, 2),
        "student.embedding_learning_rate": (0.07, 0.2),
        "student.learning_rate": (0.003, 0.01),
        "loss.soft": (0.7, 0.9),
        "loss.label": (0.3, 0.5),
    }
    # Every checkpoint from the change on is lost: the one of step 5 goes on with the settings of its time.
    lost = sorted((tmp_path / "killed" / "checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    for path in lost:
        if int(path.name[5:]) > 5:
            shutil.rmtree(path)
    caplog.clear()
    after(log, tmp_path / "killed")
    assert "the settings of its time hold, and change where they were changed: 6" in caplog.text
    distilling.assert_same_state(tmp_path / "calm", tmp_path / "killed")


@pytest.mark.slow
def test_settings_matter(log: Log, tmp_path: Path) -> None:
    """Without this, the test above could not fail."""
    before(log, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    distilling.run(log, settings(tmp_path / "a"), student=FASTER)
    distilling.run(log, settings(tmp_path / "b"))
    one, two = final(tmp_path / "a").tensors, final(tmp_path / "b").tensors
    assert one["weights/id"].tobytes() != two["weights/id"].tobytes()


@pytest.mark.slow
def test_a_checkpoint_without_the_settings_of_its_time_is_refused_where_they_would_be_needed(
    log: Log, tmp_path: Path
) -> None:
    before(log, tmp_path / "s")
    after(log, tmp_path / "s")
    for path in (tmp_path / "s" / "checkpoints").iterdir():
        if int(path.name[5:]) > 5:
            shutil.rmtree(path)
    found = final(tmp_path / "s")
    del found.state["stream"]["events"]  # as an older version left it
    distilling.checkpoint.save(found.path.parent, found.step, found.tensors, found.state)
    with pytest.raises(CheckpointError, match="the settings that held before step 6 are not kept"):
        after(log, tmp_path / "s")
    (tmp_path / "s" / NAME).unlink()
    after(log, tmp_path / "s")  # then nothing is known of a change, and the settings of now hold


@pytest.mark.parametrize("name", ["seed", "features", "student.dim"])
def test_what_a_student_keeps_for_life(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"step-3: was made with {name} = 1, the settings now say 2; set it back"):
        refuse({name: (1, 2)}, "step-3")


@pytest.mark.parametrize("noise", [b"noise", b'[{"step": "\xff"}]'])
def test_a_damaged_file_of_settings_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, noise: bytes
) -> None:
    (tmp_path / NAME).write_bytes(noise)
    assert ahead(tmp_path, [], 0) == []
    assert "settings that changed after step 0 are not known" in caplog.text


def test_a_disk_that_refuses_the_file_of_settings_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.new").mkdir()
    with pytest.raises(CheckpointError, match=f"{NAME}: cannot be written .*, and start again"):
        write(tmp_path, [])

"""What a student's folder says while a distiller deletes in it, and when it is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from recdistill import checkpoint
from recdistill.errors import CheckpointError
from recdistill.loops.standing import student_at


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(folder / "checkpoints", step, {"w": np.zeros(2)}, {"stream": {"examples": step}})


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3)
    read = checkpoint.Looked.state

    def deleted_first(one: checkpoint.Looked) -> dict[str, object]:
        if one.step == 3:  # the distiller has written a newer one, and prunes
            save(tmp_path, 5)
            shutil.rmtree(one.path)
        return read(one)

    monkeypatch.setattr(checkpoint.Looked, "state", deleted_first)
    found = student_at(tmp_path)
    assert found is not None
    assert (found.step, found.examples) == (5, 5)


def test_the_only_checkpoint_may_be_deleted_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, 3)
    read = checkpoint.Looked.state

    def deleted(one: checkpoint.Looked) -> dict[str, object]:
        shutil.rmtree(path)
        return read(one)

    monkeypatch.setattr(checkpoint.Looked, "state", deleted)
    found = student_at(tmp_path)
    assert found is not None
    assert found.step is None


def test_one_that_is_damaged_is_said(tmp_path: Path) -> None:
    (save(tmp_path, 3) / checkpoint.STATE).write_text("{}")
    with pytest.raises(CheckpointError, match="step-"):
        student_at(tmp_path)


def test_a_bundle_that_is_deleted_between_two_looks_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundles" / "step-7").mkdir(parents=True)
    gone = tmp_path / "bundles" / "step-9"
    gone.mkdir()
    looked = Path.lstat

    def deleted(path: Path) -> object:
        if path == gone:
            gone.rmdir()
        return looked(path)

    monkeypatch.setattr(Path, "lstat", deleted)
    found = student_at(tmp_path)
    assert found is not None
    assert found.bundle_step == 7

"""A student's folder: checkpoints and bundles come and go, and only while this process owns it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recdistill.bundle import Bundle, open_bundle, reading
from recdistill.errors import BundleError, CheckpointError, Fenced
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.owner import NAME
from references.students import make_student

TENSORS = {"w": np.zeros(3, np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudentFolder]:
    made = StudentFolder(tmp_path, keep=2)
    yield made
    made.close()


def listing(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir())


def write(out: Path) -> Bundle:
    make_student().export(out)
    return open_bundle(out)


def test_old_ones_go_as_new_ones_come_but_not_what_is_read(folder: StudentFolder, tmp_path: Path) -> None:
    for step in range(1, 4):
        folder.save(step, TENSORS, {})
        assert folder.export(step, write) is not None
    assert sorted(path.name for path in folder.bundles.iterdir()) == ["step-0000000002", "step-0000000003"]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step-2", "step-3"]
    with reading(folder.bundles / "step-0000000002"):
        folder.export(4, write)
        open_bundle(folder.bundles / "step-0000000002")
    assert len(list(folder.bundles.iterdir())) == 3
    assert folder.export(4, write) is None  # it is there
    assert len(list(folder.bundles.iterdir())) == 2


def test_the_newest_bundle_that_opens_is_named(folder: StudentFolder) -> None:
    assert folder.newest() == ""
    first = folder.export(1, write)
    assert first is not None
    folder.export(2, write)
    (folder.bundles / "step-0000000002" / "items.bin").unlink()
    assert folder.newest() == first.content_hash


def test_who_lost_the_folder_writes_and_deletes_nothing(folder: StudentFolder, tmp_path: Path) -> None:
    folder.save(1, TENSORS, {})
    folder.export(1, write)
    (tmp_path / NAME).unlink()
    second = StudentFolder(tmp_path, keep=2)
    before = listing(tmp_path)
    with pytest.raises(Fenced):
        folder.save(2, TENSORS, {})
    with pytest.raises(Fenced):
        folder.export(2, write)
    assert listing(tmp_path) == before
    second.close()


def test_who_loses_it_while_writing_gives_no_name_to_what_is_written(folder: StudentFolder, tmp_path: Path) -> None:
    checks = []

    def lose() -> None:
        checks.append(1)
        if len(checks) == 2:  # the first was before the writing
            (tmp_path / NAME).unlink()
        folder._owner.check()

    folder.check = lose  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        folder.save(1, TENSORS, {})
    assert "checkpoints/step-1" not in listing(tmp_path)


def test_what_the_other_process_was_in_the_way_of_is_told_as_that(folder: StudentFolder, tmp_path: Path) -> None:
    def in_the_way(out: Path) -> Bundle:
        (tmp_path / NAME).unlink()
        raise BundleError(f"{out}: is there already")

    with pytest.raises(Fenced):
        folder.export(1, in_the_way)


def test_a_full_disk_is_told_as_that(folder: StudentFolder) -> None:
    folder.checkpoints.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        folder.save(1, TENSORS, {})

"""A small file is there whole, or as it was before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recdistill.errors import DataError
from recdistill.sealed import put


def test_it_is_put_in_place_of_one_that_is_there(tmp_path: Path) -> None:
    for data in (b"one", b"", b"three"):
        put(tmp_path / "a.json", data, DataError)
        assert (tmp_path / "a.json").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "free some disk space"), (errno.EIO, "repair the disk")])
def test_a_disk_that_refuses_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    put(tmp_path / "a.json", b"before", DataError)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match=f"a.json: cannot be written .*{advice}, and start again"):
        put(tmp_path / "a.json", b"after", DataError)
    assert (tmp_path / "a.json").read_bytes() == b"before"

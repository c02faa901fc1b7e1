"""A folder is there whole or not at all, and nothing but the bytes that were written is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.kills import Killed, die_at

from recdistill.errors import DataError
from recdistill.sealed import FileEntry, Seal, canonical, entry_of

SEAL = Seal("manifest.json", most=1000, error=DataError, again="copy it again")
EMPTY = entry_of(b"")
FILES = {"a.bin": b"first", "b.bin": b"second" * 100}


def write(out: Path) -> None:
    with SEAL.draft(out) as draft:
        for name, data in FILES.items():
            draft.add(name, data)
        draft.close(canonical(draft.files))


def assert_whole(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == [*FILES, "manifest.json"]
    assert SEAL.manifest_of(out) == canonical({name: entry_of(data) for name, data in FILES.items()})
    for name, data in FILES.items():
        assert SEAL.read(out / name, entry_of(data)) == data


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    nth = 0
    while True:
        nth += 1
        out = tmp_path / f"{nth}" / "deep" / "it"
        with monkeypatch.context() as patch:
            die_at(patch, nth, after=after)
            try:
                write(out)
            except Killed:
                killed = True
            else:
                killed = False
        if out.exists():
            assert_whole(out)
        else:
            write(out)  # the next life is not disturbed
            assert_whole(out)
        write(out.with_name("next"))
        (out.parent / "it2").mkdir()
        if not killed:
            break
    assert nth > 10


def test_the_order_is_files_then_manifest_then_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss of power only what was flushed is there: each file, then the folder, then the folders above."""
    said: list[tuple[str, str]] = []
    open_files: dict[int, str] = {}
    real_open, real_fsync, real_rename = os.open, os.fsync, os.rename

    def opened(path: str | Path, *args: int, **kwargs: int) -> int:
        handle = real_open(path, *args, **kwargs)
        open_files[handle] = "hidden" if Path(path).name.endswith(".part") else Path(path).name
        return handle

    def flushed(handle: int) -> None:
        said.append(("flush", open_files[handle]))
        real_fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        said.append(("rename", Path(new).name))
        real_rename(old, new)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    write(tmp_path / "new" / "newer" / "it")
    flushes = [("flush", name) for name in ("a.bin", "b.bin", "manifest.json", "hidden")]
    assert said[:5] == [*flushes, ("rename", "it")]
    # The entries of `it`, of `newer` and of `new`, each in the folder above.
    assert {("flush", name) for name in ("newer", "new", tmp_path.name)} <= set(said[5:])


def test_without_close_nothing_is_left(tmp_path: Path) -> None:
    with SEAL.draft(tmp_path / "it") as draft:
        draft.add("a.bin", b"")
    with pytest.raises(DataError, match="'../b.bin' cannot be the name"), SEAL.draft(tmp_path / "it") as draft:
        draft.add("../b.bin", b"")
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_does_not_take_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="it: cannot be written"):
        write(tmp_path / "file" / "it")
    write(tmp_path / "it")
    with pytest.raises(DataError, match="it: cannot be written"):
        write(tmp_path / "it")
    assert_whole(tmp_path / "it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "it"]


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """It is sparse: reading it would take the memory that it says it has."""
    with (tmp_path / "a.bin").open("wb") as f:
        f.truncate(1 << 42)
    with pytest.raises(DataError, match=r"a.bin: has 4398046511104 bytes, manifest.json says 5; copy it again"):
        SEAL.read(tmp_path / "a.bin", entry_of(b"first"))
    with pytest.raises(DataError, match="has 4398046511104 bytes"):
        SEAL.opened(tmp_path / "a.bin", entry_of(b"first"))
    (tmp_path / "a.bin").rename(tmp_path / "manifest.json")
    with pytest.raises(DataError, match=r"manifest.json: has more than the 1000 bytes"):
        SEAL.manifest_of(tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "absent"])
def test_only_plain_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    if kind == "link":
        (tmp_path / "b.bin").write_bytes(b"first")
        path.symlink_to(tmp_path / "b.bin")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    why = {"link": "is a link", "absent": "is missing"}.get(kind, "is not a plain file")
    for call in (SEAL.read, SEAL.opened):
        with pytest.raises(DataError, match=f"a.bin: .*{why}.*; copy it again"):
            call(path, entry_of(b"first"))
    with pytest.raises(DataError, match=why):
        SEAL.size(path)


def test_what_is_not_named_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "it")
    SEAL.refuse_others(tmp_path / "it", FILES)
    (tmp_path / "it" / ".hidden").write_bytes(b"")
    with pytest.raises(DataError, match=r".hidden: is not named by manifest.json"):
        SEAL.refuse_others(tmp_path / "it", FILES)


def test_arrays_are_mapped_and_only_as_announced(tmp_path: Path) -> None:
    wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", wanted)
    entry = entry_of((tmp_path / "a.npy").read_bytes())
    found = SEAL.array(tmp_path / "a.npy", entry, (2, 3), wanted.dtype)
    assert np.array_equal(found, wanted)
    assert not found.flags.writeable
    for shape, kind in (((3, 2), "f4"), ((2, 3), "f8"), ((6,), "f4"), ((-2, -3), "f4")):
        with pytest.raises(DataError, match=r"a.npy: holds float32 \(2, 3\), expected"):
            SEAL.array(tmp_path / "a.npy", entry, shape, np.dtype(kind))
    np.save(tmp_path / "none.npy", np.zeros((0, 3), np.float32))
    entry = entry_of((tmp_path / "none.npy").read_bytes())
    assert SEAL.array(tmp_path / "none.npy", entry, (0, 3), wanted.dtype).shape == (0, 3)
    for body in (b"", b"\x93NUMPY\x01\x00\x05\x00{{{{{", b"\x93NUMPY\x02\x00"):
        (tmp_path / "bad.npy").write_bytes(body)
        with pytest.raises(DataError, match=r"bad.npy: is not an array file of version 1.0"):
            SEAL.array(tmp_path / "bad.npy", entry_of(body), (2, 3), wanted.dtype)


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"fIrst")
    with pytest.raises(DataError, match=r"a.bin: is not the file that manifest.json describes; copy it again"):
        SEAL.read(tmp_path / "a.bin", entry_of(b"first"))
    with pytest.raises(DataError, match="is not the file"):
        SEAL.opened(tmp_path / "a.bin", FileEntry(5, "0" * 64))


@pytest.mark.parametrize("how", ["manifest", "whole", "opened"])
def test_a_file_that_the_disk_cannot_read_is_damaged(how: str) -> None:
    """The memory of a process is a plain file whose first byte cannot be read, as in a bad sector of a disk."""
    seal, memory, entry = Seal("mem", most=1000, error=DataError, again="copy it again"), Path("/proc/self/mem"), EMPTY
    with pytest.raises(DataError, match=r"/mem: cannot be read \(Input/output error\); copy it again"):
        {
            "manifest": lambda: seal.manifest_of(memory.parent),
            "whole": lambda: seal.read(memory, entry),
            "opened": lambda: seal.opened(memory, entry),
        }[how]()

"""The joiner's window on disk, so that it stands again within seconds. It is a cache: the log stays the truth.

A snapshot says what the window held after a commit, and where each partition was then. A joiner that starts again takes
it, and reads from there up to its committed positions. Without one, or with one that does not fit, it reads the
window from the log again.

It knows nothing of what the window's bytes mean.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder), Snapshot(about="a log", n=7, moved=0, partitions={}, lists=b"abc", given=[b"x", b"yy"]))
    ...     found = read(Path(folder), "a log")
    >>> found.n, found.lists, found.given
    (7, b'abc', [b'x', b'yy'])
"""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from recdistill.errors import CheckpointError
from recdistill.loops.ahead import Clock
from recdistill.sealed import FileEntry, FileName, Seal, canonical, discard

log_ = logging.getLogger(__name__)

SEAL: Final = Seal("manifest.json", most=1 << 16, error=CheckpointError, again="it is made again by itself")
_ABOUT, _LISTS, _GIVEN, _SIZES = "about.json", "lists.bin", "given.bin", "sizes.bin"
_NAME: Final = re.compile(r"window-([1-9][0-9]*)")


class Partition(msgspec.Struct, array_like=True):
    """Where a partition was.

    Attributes:
        read: Next offset.
        clock: What its guard knew.
        marks: Places at which a reader can start.
    """

    read: int
    clock: Clock
    marks: list[tuple[int, Clock]]


class Snapshot(msgspec.Struct):
    """The window after a commit.

    Attributes:
        about: What it belongs to: the log and the settings.
        n: Number of the next example.
        moved: How often the joiner was sent to another place.
        partitions: By their names.
        lists: The open lists, one after the other.
        given: The feedback.
    """

    about: str
    n: int
    moved: int
    partitions: dict[str, Partition]
    lists: bytes
    given: list[bytes]


def write(directory: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot in place of the last one. Where it cannot, it says so: the joiner can go on without it."""
    about = msgspec.structs.replace(snapshot, lists=b"", given=[])
    sizes = np.array([len(one) for one in snapshot.given], "<i4")
    contents = {
        _ABOUT: msgspec.json.encode(about),
        _LISTS: snapshot.lists,
        _GIVEN: b"".join(snapshot.given),
        _SIZES: sizes.tobytes(),
    }
    try:
        before = _there(directory)
        number = 1 + (before[-1][0] if before else 0)
        with SEAL.draft(directory / f"window-{number}") as draft:
            for name, data in contents.items():
                draft.add(name, data)
            draft.close(canonical(draft.files))
        for _, path in before:
            discard(path)
    except (CheckpointError, OSError) as e:
        log_.warning("no snapshot of the joiner's window: %s; without one, a restart reads the window again", e)


def drop(directory: Path) -> None:
    """Deletes what is there: it is of a state that the log does not hold any more, and grows into something else.

    After a power cut, or with a copy that was put back, the log is as it was before the snapshot. Later it holds as
    much again, of other records, and then such a snapshot would seem to fit.
    """
    try:
        for _, path in _there(directory):
            discard(path)
    except OSError as e:
        log_.warning("%s: the snapshot there cannot be deleted (%s); delete it before the next start", directory, e)


def read(directory: Path, about: str) -> Snapshot | None:
    """The snapshot that is there; None without one that can be used.

    Args:
        directory: Where it lies.
        about: What it must belong to.
    """
    for _, path in reversed(_there(directory)):
        try:
            snapshot = _read(path)
        except (CheckpointError, OSError, msgspec.MsgspecError, KeyError, ValueError) as e:
            log_.warning("a snapshot of the joiner's window cannot be used: %s", e)
            continue
        if snapshot.about == about:
            return snapshot
        log_.warning("%s: belongs to another log or to other settings of the joiner, so it is not used", path)
    if directory.exists():
        log_.warning("there is no snapshot that can be used, so the joiner reads its window from the log again")
    return None


def _read(path: Path) -> Snapshot:
    files = msgspec.json.decode(SEAL.manifest_of(path), type=dict[FileName, FileEntry])
    about, lists, given, sizes = (SEAL.read(path / name, files[name]) for name in (_ABOUT, _LISTS, _GIVEN, _SIZES))
    snapshot = msgspec.json.decode(about, type=Snapshot)
    ends = np.cumsum(np.frombuffer(sizes, "<i4"), dtype=np.int64).tolist()
    if ends and ends[-1] != len(given):
        raise ValueError(f"{path}: the feedback has {len(given)} bytes, and {ends[-1]} are named")
    snapshot.lists = lists
    snapshot.given = [given[start:stop] for start, stop in pairwise([0, *ends])]
    return snapshot


def _there(directory: Path) -> list[tuple[int, Path]]:
    """The snapshots, oldest first."""
    if not directory.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)

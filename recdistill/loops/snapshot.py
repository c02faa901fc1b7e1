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
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recdistill import checkpoint
from recdistill.errors import CheckpointError
from recdistill.loops.ahead import Clock
from recdistill.sealed import discard

log_ = logging.getLogger(__name__)


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
    sizes = np.array([len(one) for one in snapshot.given], np.int64)
    arrays: dict[str, np.ndarray] = {
        "lists": np.frombuffer(snapshot.lists, np.uint8),
        "given": np.frombuffer(b"".join(snapshot.given), np.uint8),
        "sizes": sizes,
    }
    state = msgspec.to_builtins(snapshot) | {"lists": "", "given": []}
    try:
        path = checkpoint.save(directory, snapshot.n, arrays, state)
        for other in directory.glob("step-*"):
            if other != path:
                discard(other)
    except (CheckpointError, OSError) as e:
        log_.warning("no snapshot of the joiner's window: %s; without one, a restart reads the window again", e)


def read(directory: Path, about: str) -> Snapshot | None:
    """The snapshot that is there; None without one that can be used.

    Args:
        directory: Where it lies.
        about: What it must belong to.
    """
    try:
        found = checkpoint.latest(directory)
        if found is None:
            return None
        snapshot = _snapshot(found.state, found.tensors)
    except (CheckpointError, OSError, msgspec.ValidationError, KeyError, ValueError) as e:
        log_.warning("the snapshot of the joiner's window cannot be used; it is read from the log again: %s", e)
        return None
    if snapshot.about != about:
        log_.warning(
            "the snapshot of the joiner's window in %s belongs to another log or to other settings; the window is read "
            "from the log again",
            directory,
        )
        return None
    return snapshot


def _snapshot(state: dict[str, Any], tensors: dict[str, np.ndarray]) -> Snapshot:
    snapshot = msgspec.convert(state | {"lists": b"", "given": []}, Snapshot)
    data, ends = tensors["given"].tobytes(), np.cumsum(tensors["sizes"]).tolist()
    snapshot.lists = tensors["lists"].tobytes()
    snapshot.given = [data[start:stop] for start, stop in pairwise([0, *ends])]
    return snapshot

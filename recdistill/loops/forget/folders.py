"""Removes a person from what lies in folders: the joiner's snapshot, and the last requests that checkpoints hold.

A snapshot is a cache: it is deleted whole, and the joiner reads its window from the log again. A checkpoint holds the
last requests it learnt from, with their history and without a name; those of the person are taken out of them. They
only become golden requests of a bundle, so the student's weights and its way on stay the same.

It knows nothing of logs.

Example:
    >>> clean_window(Path("no/such/folder"), {"list-1"})
    0
"""

from __future__ import annotations

from collections.abc import Set
from contextlib import closing
from pathlib import Path
from typing import Any

from recdistill import checkpoint
from recdistill.loops.distil import StudentFolder
from recdistill.loops.window import id_key
from recdistill.sealed import discard


def clean_window(directory: Path, ids: Set[str]) -> int:
    """Deletes the joiner's snapshots that hold one of these lists; how many."""
    wanted = [written for one in ids for written in (one.encode(), id_key(one))]
    deleted = 0
    for snapshot in sorted(directory.glob("window-*")) if ids and directory.is_dir() else []:
        if any(one in data for data in _contents(snapshot) for one in wanted):
            discard(snapshot)
            deleted += 1
    return deleted


def clean_checkpoints(directory: Path, ids: Set[str]) -> list[Path]:
    """Takes the requests of these lists out of a student's checkpoints; which were written again.

    Raises:
        CheckpointError: A distiller works there, or a checkpoint cannot be read or written.
    """
    checkpoints = directory / "checkpoints"
    theirs = [one for one in checkpoint.looked(checkpoints) if _golden(one.state(), ids)]
    if not theirs:
        return []
    with closing(StudentFolder(directory, keep=len(checkpoint.looked(checkpoints)))) as folder:
        for one in theirs:
            found = checkpoint.load(one.path)
            stream = found.state["stream"]
            stream["golden"] = [asked for asked in stream["golden"] if asked.get("id") not in ids]
            others = {name: found.read(name) for name in found.files.keys() - {checkpoint.TENSORS, checkpoint.STATE}}
            checkpoint.save(checkpoints, one.step, found.tensors, found.state, others=others, check=folder.check)
    return [one.path for one in theirs]


def _golden(state: dict[str, Any], ids: Set[str]) -> bool:
    return any(asked.get("id") in ids for asked in state.get("stream", {}).get("golden", []))


def _contents(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.iterdir() if file.is_file()]

"""Where a student stands: who works on it, its newest checkpoint and bundle, and when the next bundle is due.

Files are read and nothing is locked, so a distiller that starts at this moment is not disturbed.

It knows nothing of logs or of how a student learns.

Example:
    >>> next_exports(steps=2000, examples=0, seconds=60.0, drift=0.0, step=400, learnt=0, age_s=18.0)
    ['after 1,600 more steps (distil.export_every)', 'in 42 s, if something was learnt (distil.export_every_s)']
    >>> next_exports(steps=0, examples=0, seconds=0.0, drift=0.0, step=400, learnt=0, age_s=None)
    ['at the end of a drained run: no trigger is set (distil.export_every and its like)']
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from recdistill import checkpoint
from recdistill.bundle import bundle_folder, made
from recdistill.errors import BundleError, CheckpointError
from recdistill.loops.distil import owner_of, waiting
from recdistill.watch import Drifts


class AnewAt(Struct, frozen=True):
    """A student that is made anew, or soon will be.

    Attributes:
        asked_us: When a person asked for it, where no distiller has taken the request yet; 0 otherwise.
        share: Of what it has to learn again, how much its newest checkpoint has.
    """

    asked_us: int = 0
    share: float = 0.0


class StudentAt(Struct, frozen=True, kw_only=True):
    """What a student's folder says.

    Attributes:
        directory: The folder.
        works: Whether a process works on it; None where this machine cannot tell.
        owner: Who works there, or did so last.
        step: Of its newest checkpoint; None: there is none yet.
        saved_us: When that was written.
        examples: Examples that it has learnt until then.
        event_us: Time of the newest list among them; 0 where that is not known.
        bundle_step: Step of the newest bundle; None: there is none yet.
        bundle_us: When that was written.
        bundle: Its content hash.
        name: Of the student, in the log.
        lanes: Where in the lanes its newest checkpoint stands.
        drift: What the detectors of drift saw, by detector and quantity.
        drifted: A sentence for each of the newest drifts, oldest first.
        prequential: How well lists were ordered before they were learnt, as the checkpoint tells it; may be empty.
        anew: How far it is where it is made anew; None: it is not.
    """

    directory: str
    works: bool | None = False
    owner: str = ""
    step: int | None = None
    saved_us: int = 0
    examples: int = 0
    event_us: int = 0
    bundle_step: int | None = None
    bundle_us: int = 0
    bundle: str = ""
    name: str = ""
    lanes: list[int] = []
    drift: dict[str, dict[str, float]] = {}
    drifted: list[str] = []
    prequential: dict[str, Any] = {}
    anew: AnewAt | None = None


def student_at(directory: Path) -> StudentAt | None:
    """What the folder of a student says; None where there is no such folder.

    Raises:
        CheckpointError: Its newest checkpoint cannot be read.
    """
    if not directory.is_dir():
        return None
    note = owner_of(directory)
    works: bool | None = False
    if note is not None and not (works := _held(note.inode, note.pid)):
        works = False if note.host == socket.gethostname() else None
    newest, state = _newest(directory / "checkpoints")
    stream = state.get("stream", {})
    drifts = _drifts(state)
    bundle, bundle_us = _newest_bundle(directory / "bundles")
    content = ""
    if bundle is not None:
        with suppress(BundleError):
            content = bundle_folder(bundle).content_hash
    return StudentAt(
        directory=str(directory),
        works=works,
        owner="" if note is None else str(note),
        step=None if newest is None else newest.step,
        saved_us=0 if newest is None else newest.saved_us,
        examples=int(stream.get("examples", 0)),
        event_us=int(stream.get("event_us", 0)),
        bundle_step=None if bundle is None else int(bundle.name.removeprefix("step-")),
        bundle_us=bundle_us,
        bundle=content,
        name="" if note is None else note.student,
        lanes=[int(offset) for offset in stream.get("lanes", {}).get("offsets", [])],
        drift=drifts.figures(),
        drifted=[str(found) for found in drifts.found],
        prequential=state.get("prequential", {}),
        anew=_anew(directory, stream),
    )


def next_exports(
    *, steps: int, examples: int, seconds: float, drift: float, step: int, learnt: int, age_s: float | None
) -> list[str]:
    """When the next bundle is due, one phrase for each trigger.

    Args:
        steps: A multiple of so many steps makes one due; 0: never.
        examples: A multiple of so many examples does; 0: never.
        seconds: So many seconds after the last one; 0: never.
        drift: The agreement with a teacher moved by so much; 0: never.
        step: Steps made.
        learnt: Examples learnt.
        age_s: Seconds since the last bundle; None: there is none.
    """
    found = []
    if steps:
        found.append(f"after {steps - step % steps:,} more steps (distil.export_every)")
    if examples:
        found.append(f"after {examples - learnt % examples:,} more examples (distil.export_every_examples)")
    if seconds:
        left_s = seconds if age_s is None else max(0.0, seconds - age_s)
        found.append(f"in {left_s:,.0f} s, if something was learnt (distil.export_every_s)")
    if drift:
        found.append(f"when the agreement with a teacher moves by {drift:g} (distil.export_on_drift)")
    return found or ["at the end of a drained run: no trigger is set (distil.export_every and its like)"]


def _newest(directory: Path) -> tuple[checkpoint.Looked | None, dict[str, Any]]:
    """The newest checkpoint and its state. One that is deleted while it is read is old by now: the next is taken.

    Raises:
        CheckpointError: It is there, and cannot be read.
    """
    while found := checkpoint.looked(directory):
        try:
            return found[-1], found[-1].state()
        except CheckpointError:
            if found[-1].path.is_dir():
                raise
    return None, {}


def _newest_bundle(directory: Path) -> tuple[Path | None, int]:
    """The newest bundle, and when it was made, in microseconds."""
    while found := made(directory):
        with suppress(FileNotFoundError):  # deleted in between: there are newer ones
            return found[-1], found[-1].lstat().st_mtime_ns // 1000
    return None, 0


def _anew(directory: Path, stream: Mapping[str, Any]) -> AnewAt | None:
    """Whether a student is made anew.

    Then it goes over a part of the log again, and has learnt nothing new since that began.

    Raises:
        CheckpointError: The request in its folder cannot be read.
    """
    if (request := waiting(directory)) is not None:
        return AnewAt(asked_us=request.at_us)
    part, rebuilt = stream.get("range"), stream.get("rebuilt", 0)
    if not part or not part["done"] or not rebuilt or rebuilt != stream.get("examples"):
        return None
    start, here, until = (sum(one["offsets"]) for one in (part["start"], stream["lanes"], part["until"]))
    return AnewAt(share=(here - start) / max(1, until - start))


def _drifts(state: Mapping[str, Any]) -> Drifts:
    """What a checkpoint's detectors of drift know; nothing where an older version wrote it, or nobody looks."""
    try:
        return msgspec.convert(state["trainer"]["watch"]["drifts"], Drifts)
    except (KeyError, TypeError, msgspec.ValidationError):
        return Drifts()


def _held(inode: int, pid: int) -> bool:
    """Whether a process has the lock of the folder's owner. Where the system does not list locks, its number tells."""
    try:
        locks = Path("/proc/locks").read_text()
        return any(f":{inode} " in line and "FLOCK" in line for line in locks.splitlines())
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

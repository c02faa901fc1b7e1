"""Learns a bundle again from the log, to see that the same content comes out.

A bundle says where its student began, which parts of the log it went over, when its settings changed, and where it
stood when the bundle was made. A fresh student does the same in a folder of its own. Nothing is written to the log: no
position, no dead letter.

When something that it was made of is gone, this is said: a log that was cut or replaced, records that retention has
deleted, the older student of a warm start.

It knows nothing of torch, nor of where the bundle came from.

Example:
    >>> Played(bundle="a" * 64, replayed="a" * 64, steps=3, notes=[]).same
    True
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from recdistill import __version__
from recdistill.bundle import Bundle
from recdistill.errors import DataError, Interrupted, PositionError
from recdistill.loops.distil.bundling import export
from recdistill.loops.distil.course import Remake
from recdistill.loops.distil.distiller import Distiller
from recdistill.loops.distil.events import Event
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.passes import Range
from recdistill.loops.distil.saved import Run
from recdistill.progress import Progress
from recdistill.stream import LanePosition, Left, Log, Position, Stage, TopicPartition, read_place, write_position

WAIT_S: Final = 0.2
PATIENCE_S: Final = 30.0
"""A log that gives nothing more for so long has ended."""


class Course(Struct, frozen=True):
    """How a student came to be, as its bundle says it."""

    events: list[Event]
    runs: list[Run]
    runs_left_out: int = 0


class Played(Struct, frozen=True, kw_only=True):
    """What came out.

    Attributes:
        bundle: Content hash of the bundle.
        replayed: Content hash of what was made again.
        steps: Steps that were made.
        notes: What may be a reason where they differ.
    """

    bundle: str
    replayed: str
    steps: int
    notes: list[str]

    @property
    def same(self) -> bool:
        """Whether the same content came out."""
        return self.bundle == self.replayed


def replay(
    log: Log,
    bundle: Bundle,
    folder: Path,
    remake: Remake,
    *,
    memory_mb: int = 1000,
    stop: threading.Event,
    progress: Progress | None = None,
) -> Played:
    """Learns a bundle again.

    Args:
        log: The log that it was learnt from.
        bundle: The bundle.
        folder: An empty folder for the student.
        remake: Makes a trainer of settings that a bundle names.
        memory_mb: Megabytes of batches kept for the next pass.
        stop: Set it and it ends early.
        progress: Told the steps.

    Raises:
        DataError: Something that the bundle was made of is gone, or it does not say what it was made of.
        Interrupted: `stop` was set.
        StreamError: The log cannot be read.
    """
    name = bundle.content_hash[:12]
    said = bundle.manifest.provenance
    course, steps, lanes, items = _course_of(said, name)
    first = course.events[0]
    notes = (
        [] if said.get("code") == __version__ else [f"it was made by version {said.get('code')}, this is {__version__}"]
    )
    trainer, recipe = remake(first.settings)
    with _gone(name), _owned(folder) as owned:
        log.check_witness({**lanes.by_partition(), TopicPartition("items", 0): items}, _witness(said))
        distiller = Distiller(
            cast("Log", Rehearsed(log)),
            trainer,
            owned,
            recipe,
            memory_mb=memory_mb,
            begin=read_place(write_position(first.lanes.by_partition())),
            settings=first.settings,
            remake=remake,
        )
        try:
            _learn(distiller, course, steps, stop=stop, progress=progress)
            if distiller.saved.lanes.offsets != lanes.offsets and distiller.saved.range is None:
                notes.append(
                    f"it stands at {distiller.saved.lanes.offsets} of the examples, the bundle at {lanes.offsets}"
                )
            made = export(distiller, max(1, bundle.manifest.content.popular))
        finally:
            distiller.close()
    if made is None:
        raise DataError(f"bundle {name} cannot be made again: the log knows no item that is live")
    return Played(bundle=bundle.content_hash, replayed=made.content_hash, steps=distiller.step, notes=notes)


def _learn(
    distiller: Distiller, course: Course, steps: int, *, stop: threading.Event, progress: Progress | None
) -> None:
    """Makes so many steps, over the parts of the log that the course names."""
    runs = deque(course.runs)
    first = runs.popleft() if runs and runs[0].step == distiller.step else None
    _begin(distiller, first, course)
    moved_s = time.monotonic()
    while distiller.step < steps:
        if stop.is_set():
            raise Interrupted(f"the replay was stopped after {distiller.step:,} of {steps:,} steps; nothing was kept")
        if distiller.saved.range is None and runs and runs[0].step == distiller.step:
            _begin(distiller, runs.popleft(), course)
        before = distiller.saved.range
        if distiller.advance(WAIT_S) is not None or distiller.saved.range != before:
            moved_s = time.monotonic()
            if progress:
                progress(distiller.step, steps)
        elif time.monotonic() - moved_s > PATIENCE_S:
            raise DataError(
                f"the log gives nothing more after {distiller.step:,} of {steps:,} steps: examples that the bundle was "
                "made of are gone"
            )


def _begin(distiller: Distiller, run: Run | None, course: Course) -> None:
    """Goes over a part of the log as that run did; None: over none. Settings will change as they did."""
    distiller.saved.range = None if run is None else Range(run.passes, run.start, run.until)
    distiller.course.expect([one for one in course.events[1:] if one.step >= distiller.step])


def _course_of(said: Mapping[str, Any], name: str) -> tuple[Course, int, LanePosition, int]:
    """How a bundle was made: its course, its step, and where it stood in `examples` and `items`."""
    if said.get("restarts"):
        first = said["restarts"][0]
        gone = (
            f"the weights of {str(first.get('source', '?'))[:12]}, with which it began"
            if first.get("how") == "warm-start"
            else f"what lay between two places, which its student left out at step {first.get('step')}"
        )
        raise DataError(f"bundle {name} cannot be made again from the log alone: {gone}")
    try:
        course = msgspec.convert(said["course"], Course)
        lanes = msgspec.convert(said["positions"]["lanes"], LanePosition)
        steps, items = int(said["step"]), int(said["positions"]["items"])
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as e:
        raise DataError(
            f"bundle {name} does not say how its student was made ({e}): an older version made it, and did not note it"
        ) from e
    if not course.events or not course.events[0].settings:
        raise DataError(f"bundle {name} does not say with which settings its student was made")
    if course.runs_left_out:
        raise DataError(
            f"bundle {name} cannot be made again: its student went over {course.runs_left_out + len(course.runs):,} "
            f"parts of the log, one for each `recdistill distil --drain`, and only the newest {len(course.runs):,} are "
            "noted"
        )
    return course, steps, lanes, items


def _witness(said: Mapping[str, Any]) -> dict[str, str] | None:
    found = said.get("positions", {}).get("witness")
    return found if isinstance(found, dict) else None


@contextmanager
def _gone(name: str) -> Iterator[None]:
    """Says that a part of the log is gone, and which."""
    try:
        yield
    except PositionError as e:
        raise DataError(f"bundle {name} cannot be made again, because a part of its log is gone: {e.facts}") from e


@contextmanager
def _owned(directory: Path) -> Iterator[StudentFolder]:
    folder = StudentFolder(directory, keep=1)
    try:
        yield folder
    finally:
        folder.close()


class Rehearsed:
    """A log to which nothing is written: its stages forget what they are given."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def stage(self, _name: str, _inputs: Sequence[TopicPartition] = (), **_: object) -> Stage:
        """A stage that writes nothing."""
        return cast("Stage", _Nothing())


class _Nothing:
    """A stage, and its transactions."""

    def position(self) -> Position:
        return {}

    def note(self) -> str:
        return ""

    def notes(self) -> dict[TopicPartition, str]:
        return {}

    def left(self) -> Left | None:
        return None

    def keep(self) -> None:
        """Nothing is kept."""

    @contextmanager
    def transaction(self) -> Iterator[_Nothing]:
        yield self

    def send(self, *_: object, **__: object) -> None:
        """Nothing is sent."""

    def commit_inputs(self, *_: object, **__: object) -> None:
        """Nothing is committed."""

    def close(self) -> None:
        """There is nothing to close."""

"""How a stage begins: where it stopped, or where a person says. And what to do when it cannot.

A position can be unusable: retention has removed what it points at, the broker has forgotten it, the log is another
one. A stage never jumps by itself then. It ends with one sentence, and the sentence names the safe ways on.

It knows nothing of what a stage does.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.stream import ITEMS, open_log, read_place, standard_topics
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = open_log(LogSettings(path=f"{folder.name}/log.sqlite"))
    >>> _ = log.create_topics(standard_topics())
    >>> with begun(log, "join", "join", [ITEMS], read_place("beginning", words=True)) as (stage, source):
    ...     source.position() == stage.position() == {ITEMS: 0}
    True
    >>> log.close(); folder.cleanup()
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from recdistill.errors import LostPosition, OutOfRange, PositionError, StreamError, WrongLog
from recdistill.stream import Log, Place, Source, Stage, TopicPartition, place_at, write_position

log_ = logging.getLogger(__name__)


def check_counts(topics: Mapping[str, int], *names: str) -> None:
    """Checks that topics which go together have equally many partitions.

    Raises:
        StreamError: They have not: somebody added partitions to one of them.
    """
    counts = {name: topics[name] for name in names if name in topics}
    if len(set(counts.values())) > 1:
        has = " and ".join(f"{name} has {count}" for name, count in counts.items())
        raise StreamError(
            f"{has} partitions, and they must have equally many; end all stages, type `recdistill topics create "
            f"--grow`, set topics.partitions = {max(counts.values())}, and start them again"
        )


@contextmanager
def begun(
    log: Log,
    verb: str,
    name: str,
    inputs: Sequence[TopicPartition],
    start: Place | None = None,
    *,
    moved: Callable[[str], str] = lambda note: note,
    shared: bool = False,
    formerly: Sequence[str] = (),
) -> Iterator[tuple[Stage, Source]]:
    """Opens a stage, and the source of its inputs at its position. Both are closed at the end of the block.

    Args:
        log: The log.
        verb: The verb of this stage on the command line.
        name: Name of the stage.
        inputs: What it reads.
        start: Where it begins. It is committed at once, so a restart goes on from there. None: where it stopped.
        moved: Makes the note for another position out of the last note.
        shared: Several processes have this stage, each for other inputs.
        formerly: Names under which the positions of a shared stage stood in older versions.

    Raises:
        PositionError: The position cannot be used, now or later in the block. The sentence names the ways on.
        StreamError: The log cannot be read or written.
    """
    with naming_ways(verb):
        stage = log.stage(name, inputs, shared=shared, formerly=formerly)
        try:
            if start is not None:
                _move(log, stage, name, inputs, start, moved)
            source = log.source(inputs, stage.position())
            try:
                yield stage, source
            finally:
                source.close()
        finally:
            stage.close()


def _move(
    log: Log, stage: Stage, name: str, inputs: Sequence[TopicPartition], start: Place, moved: Callable[[str], str]
) -> None:
    left = stage.left()
    before = left.position if left is not None else stage.position()
    note, notes = (left.note, left.notes) if left is not None else (stage.note(), stage.notes())
    position = place_at(log, inputs, start)
    if inputs:
        with stage.transaction() as transaction:
            same = all(before.get(tp) == offset for tp, offset in position.items())
            transaction.commit_inputs(position, note if same else moved(note), notes if same else None)
        log_.warning(
            "the stage %s goes on at %s; it stood at %s", name, write_position(position), write_position(before)
        )


@contextmanager
def naming_ways(verb: str, student: Path | None = None) -> Iterator[None]:
    """Gives an error about a position the ways on that a stage has. A sentence that names its own ways stays.

    Args:
        verb: The verb of the stage on the command line.
        student: The folder of the student, where the stage is a distiller.
    """
    try:
        yield
    except PositionError as e:
        by = f"recdistill {verb} --from"
        froms = f"`{by} beginning` (all that is left), `{by} latest` (only what comes) or `{by} TIME`"
        if not e.ways:
            raise
        if isinstance(e, OutOfRange):
            ways = "retention has removed what was not read yet, or the log was cut back"
            back = ", or go back to another checkpoint" if student else ""
            raise OutOfRange(e.facts, f"{ways}; go on with {froms}{back}") from e
        if isinstance(e, LostPosition):
            raise LostPosition(e.facts, f"{e.ways}; or go on with {froms}") from e
        if isinstance(e, WrongLog) and student:
            new = f"recdistill distil --warm-start {student} --set distil.directory=NEW"
            raise WrongLog(e.facts, f"{e.ways}; `{new}` begins one there with the weights of this student") from e
        raise

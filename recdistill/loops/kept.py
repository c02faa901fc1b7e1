"""What a joiner saves with a commit: a note, and a line for each partition. And what an older version had saved.

It knows nothing of windows.

Example:
    >>> read_note('{"n": 7, "clock_us": 5}').version, read_note("").version
    (0, 2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from recdistill.errors import StreamError
from recdistill.loops.ahead import Clock, Guard
from recdistill.loops.held import Saved
from recdistill.stream import TopicPartition

_Kind = TypeVar("_Kind")

VERSION = 2


class Note(msgspec.Struct, omit_defaults=True):
    """What travels with a commit.

    Attributes:
        n: Number of the next example.
        clock_us: Greatest time so far.
        ranking_clock_us: Greatest time of a list so far.
        read: That of an older version: how far each partition was read. It has a line of its own now.
        version: 2: each list that was read has its scores in an example. An older joiner wrote a list when its window
            was over, and nothing before.
        closed_us: Lists of an earlier time are closed.
        moved: How often a person sent the joiner to another place.
        share: Of users that are held out.
        closing: Whether the commit was full before all windows that were over were closed.
    """

    n: int = 0
    clock_us: int = 0
    ranking_clock_us: int = 0
    read: dict[str, int] = {}
    version: int = 0
    closed_us: int = -(1 << 62)
    moved: int = 0
    share: Saved | None = None
    closing: bool = False


class Line(msgspec.Struct, array_like=True):
    """What travels with a commit for one partition.

    Attributes:
        read: Next offset.
        clock_us: What its guard knew at the saved position: its clock,
        steps: its steps,
        log_time: and whether the log's time counts.
        forced: Verdicts that the guard was forced to since.
        letters: Before this offset, what cannot be used has its dead letter already.
        taken_us: And the greatest time of the log at which that clock moved.
    """

    read: int = 0
    clock_us: int = -1
    steps: str = ""
    log_time: bool = True
    forced: dict[int, bool] = {}
    letters: int = 0
    taken_us: int = -1

    @property
    def clock(self) -> Clock:
        """What the guard knew."""
        return Clock(self.clock_us, self.steps, self.log_time, self.taken_us)


class Kept:
    """What was saved last.

    What an older joiner had read and not written is read again as if it were new: it has no example yet.

    Args:
        note: The note.
        lines: The lines.
        position: The saved position.
        inputs: All partitions.
    """

    def __init__(
        self,
        note: Note,
        lines: Mapping[TopicPartition, Line],
        position: Mapping[TopicPartition, int],
        inputs: Sequence[TopicPartition],
    ) -> None:
        self.note = note
        self.position = dict(position)
        self.lines = {tp: lines.get(tp) or Line(read=max(note.read.get(str(tp), 0), position[tp])) for tp in inputs}
        if note.version < VERSION:
            for tp, line in self.lines.items():
                self.lines[tp] = msgspec.structs.replace(line, letters=line.read, read=position[tp])
            self.note = Note(n=note.n, version=VERSION, moved=note.moved)

    def guards(self, max_ahead_s: float) -> dict[TopicPartition, Guard]:
        """The guards as they were at the saved position."""
        return {tp: Guard(max_ahead_s, line.clock, line.forced) for tp, line in self.lines.items()}

    def read(self) -> dict[TopicPartition, int]:
        """How far each partition was read."""
        return {tp: line.read for tp, line in self.lines.items()}


def read_note(text: str) -> Note:
    """The note of the last commit.

    Raises:
        StreamError: It is not one of this version.
    """
    return _decoded(text, Note) if text else Note(version=VERSION)


def read_line(text: str) -> Line:
    """The line of a partition.

    Raises:
        StreamError: It is not one of this version.
    """
    return _decoded(text, Line)


def moved(note: str) -> str:
    """The note for another position: the lanes go on in their turn, and nothing behind the position was read before."""
    last = read_note(note)
    return text_of(Note(n=last.n, version=VERSION, moved=last.moved + 1, share=last.share))


def text_of(saved: Note | Line) -> str:
    """A note or a line as text."""
    return msgspec.json.encode(saved).decode()


def _decoded(text: str, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise StreamError(
            f"the note {text[:100]!r} at the joiner's position is not one of this version: {e}; "
            "go on with the version that wrote it"
        ) from e

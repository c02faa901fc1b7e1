"""What a checkpoint says beside the trainer's own state: the settings it was made with, and the distiller's positions.

The positions are saved nowhere else. A run that was killed goes on from its newest checkpoint. On disk the state is one
flat JSON object, `stream` in `state.json`, that a person can read.

It knows nothing of files or of how a log is read.

Example:
    >>> lanes = LanePosition(LogIdentity("a", {"examples": 1}), (4,), 0)
    >>> recipe = Recipe({"dim": 4}, {"soft": 0.7}, 8, 1, 0, 1, "c0ffee", {"spread": 2.0})
    >>> saved = Saved(recipe, lanes, LogIdentity("a", {"items": 1}), items_next=7)
    >>> saved.plain()["examples"], Saved.restored(saved.plain(), Path("step-3")) == saved
    (0, True)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from recdistill.errors import CheckpointError
from recdistill.loops.distil.events import Event
from recdistill.loops.distil.passes import Range, passed
from recdistill.loops.distil.rebuilds import Mark
from recdistill.loops.distil.seen import Seen
from recdistill.loops.distil.stamped import ITEMS
from recdistill.loops.distil.warm import Restart
from recdistill.stream import LanePosition, LogIdentity, Position, TopicPartition, write_position

Number = bool | int | float | str | None

MOST_RUNS: Final = 1_000
"""So many parts of the log are noted: each is in the manifest of every bundle, which has a largest size."""


class Term(msgspec.Struct, frozen=True):
    """One soft term of the loss."""

    loss: str
    share: float
    options: dict[str, Number]


class Recipe(msgspec.Struct, frozen=True):
    """Everything that decides what a student becomes of a log, beside the changes of the settings themselves.

    Attributes:
        student: Widths and learning rates.
        loss: Terms and weights.
        batch: Examples of a step.
        passes: Passes over what the log holds at the first start.
        seed: Of the student.
        threads: Of torch; 0: torch's own choice.
        features: Hash of the feature specification.
        watch: How the scores of teachers are made comparable, and what is done about a teacher that changes.
        within_s: Seconds of the log's time after which a smaller batch is learnt; 0: never.
        rebuild: From so many of the newest examples the student is made anew after a drift; 0: never.
    """

    student: dict[str, Number]
    loss: dict[str, Number | list[Term]]
    batch: int
    passes: int
    seed: int
    threads: int
    features: str
    watch: dict[str, Number]
    within_s: float = 0.0
    rebuild: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON says it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Recipe:
        """The recipe that `plain()` was taken of.

        Raises:
            CheckpointError: It was written by another version.
        """
        try:
            return msgspec.convert(plain, cls)
        except msgspec.ValidationError as e:
            raise CheckpointError(f"a recipe was written by another version: {e}; resume with that version") from e


class Run(msgspec.Struct, frozen=True):
    """A part of the log that a call went over: which, how often, and how many steps the student had made before.

    Attributes:
        step: Steps made before.
        passes: See `Range`.
        start: See `Range`.
        until: See `Range`.
    """

    step: int
    passes: int
    start: LanePosition
    until: LanePosition


class Saved(msgspec.Struct):
    """The distiller's own state.

    Attributes:
        recipe: What the student is made with.
        lanes: Position behind the last batch learnt.
        items_identity: Which log `items_next` belongs to.
        items_next: Next offset of `items` that the catalogue has not seen.
        range: The part of the log that is being gone over, if any.
        parent: Content hash of the bundle that was made last.
        witness: By partition, what stood in the log before the positions; None where none was taken.
        seen: What bundles tell of the stream.
        restarts: Where the student did not simply go on, oldest first.
        clock_us: The greatest time of the log that was passed, outside of ranges.
        events: Which settings held from which step on, oldest first.
        event_us: Time of the newest list that was learnt from; 0 where that is not known.
        marks: Places of the log from which the student could be made anew, oldest first.
        rebuilt: Examples that were learnt when the student was made anew last; 0: never.
        runs: The parts of the log that calls went over, oldest first; between them the stream was followed.
        then_until: Where a drained run ends that was interrupted because the student was made anew.
        runs_left_out: How many older ones of `runs` are not noted any more.
        places: Where the student was, oldest first: from one of them it is made anew when a person asks. They do not
            keep the log back.
    """

    recipe: Recipe
    lanes: LanePosition
    items_identity: LogIdentity
    items_next: int
    range: Range | None = None
    parent: str = ""
    witness: dict[str, str] | None = None
    seen: Seen = msgspec.field(default_factory=Seen)
    restarts: list[Restart] = []
    clock_us: int = 0
    events: list[Event] = []
    event_us: int = 0
    marks: list[Mark] = []
    rebuilt: int = 0
    then_until: LanePosition | None = None
    runs: list[Run] = []
    places: list[Mark] = []
    runs_left_out: int = 0

    def positions(self) -> Position:
        """How far of the log this rests on: to the end of the range, while there is one."""
        return {**(self.range.until if self.range else self.lanes).by_partition(), ITEMS: self.items_next}

    def rests_on(self) -> dict[TopicPartition, int]:
        """From where on the log is still needed: a later pass begins at the start of the range again."""
        r = self.range
        found = {**(r.start if r and r.another else self.lanes).by_partition(), ITEMS: self.items_next}
        for tp, offset in self.marks[0].lanes.by_partition().items() if self.marks else ():
            found[tp] = min(found.get(tp, offset), offset)
        return found

    def go_over(self, step: int, passes: int, start: LanePosition, until: LanePosition) -> None:
        """Begins to go over a part of the log, and notes it.

        One that ends where the part before it ended is the rest of that part, and is not noted again: a run that was
        killed is then the same as one that was not.
        """
        self.range = Range(passes, start, until)
        if not (self.runs and self.runs[-1].until == until):
            every = [*self.runs, Run(step, passes, start, until)]
            self.runs = every[-MOST_RUNS:]
            self.runs_left_out += len(every) - len(self.runs)

    def total(self) -> int | None:
        """Positions of the range in all its passes, for a progress bar; None when there is no end."""
        r = self.range
        return None if r is None else r.passes * r.length()

    def done(self) -> int:
        """Positions passed, of `total`."""
        r, here = self.range, passed(self.lanes)
        return here if r is None else r.done * r.length() + here - passed(r.start)

    def plain(self) -> dict[str, Any]:
        """As JSON says it; what was seen lies flat beside the positions."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        seen: dict[str, Any] = plain.pop("seen")
        if self.witness is None:
            del plain["witness"]
        if not self.restarts:
            del plain["restarts"]
        if not self.clock_us:
            del plain["clock_us"]
        if not self.events:
            del plain["events"]
        if not self.event_us:
            del plain["event_us"]
        for name in ("marks", "rebuilt", "then_until", "runs", "places", "runs_left_out"):
            if not plain[name]:
                del plain[name]
        for name in ("within_s", "rebuild"):
            if not plain["recipe"][name]:
                del plain["recipe"][name]
        return plain | seen

    @classmethod
    def restored(cls, plain: dict[str, Any], path: Path) -> Saved:
        """The state that `plain()` was taken of.

        Args:
            plain: What the checkpoint holds.
            path: The checkpoint, for the error.

        Raises:
            CheckpointError: It is something else.
        """
        try:
            return msgspec.convert(plain | {"seen": plain}, cls)
        except msgspec.ValidationError as e:
            raise CheckpointError(f"{path}: was written by another version: {e}; resume with that version") from e


def check_until(saved: Saved, until: LanePosition, folder: Path) -> None:
    """Makes sure that a student has learnt, and will learn, nothing of what lies behind a place.

    Args:
        saved: Where the student stands.
        until: The place.
        folder: Folder of the student, for the error.

    Raises:
        CheckpointError: It has learnt more already, or is in the middle of passes over more.
    """
    here, way = write_position(until.by_partition()), "start a new student in another distil.directory"
    r = saved.range
    for place, what in ((saved.lanes, "has learnt up to"), (None if r is None else r.until, "is in its passes up to")):
        if place is not None and any(one > end for one, end in zip(place.offsets, until.offsets, strict=True)):
            raise CheckpointError(
                f"{folder}: this student {what} {write_position(place.by_partition())}, which lies behind --until "
                f"{here}; {way}, or leave --until out"
            )

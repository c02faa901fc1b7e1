"""The state of a joiner between two commits: what it takes in, what it writes, and how it stands again.

It knows nothing of settings, of how long it runs or of when it stops.

Example:
    >>> Joiner.__name__
    'Joiner'
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Final

from recdistill.errors import AheadOfTime, DataError, DecodeError
from recdistill.limits import MAX_BYTES
from recdistill.loops import snapshot
from recdistill.loops.ahead import Waiting
from recdistill.loops.halt import Halt
from recdistill.loops.held import Share
from recdistill.loops.kept import VERSION, Kept, Line, Note, text_of
from recdistill.loops.labeller import Labeller
from recdistill.loops.merge import Merge
from recdistill.loops.ticks import Ticks
from recdistill.loops.window import HELD_OUT as HELD
from recdistill.loops.window import PRODUCT, SERVED, Closed, Window
from recdistill.records import Feedback, Head, example_around
from recdistill.stream import HELD_OUT, TICK, Delivery, Message, Outgoing, Stage, TopicPartition, deliver

log_ = logging.getLogger(__name__)

_AROUND: Final = 4_096
"""More bytes than an example and its key have, beside its ranking and its labels."""

_Dead = list[tuple[Message, Exception]]


class Joiner:
    """A joiner; see `recdistill.loops.join`.

    Args:
        stage: Its stage.
        merge: The records in their order.
        window: Which feedback belongs to which list.
        share: Who is held out.
        kept: What was saved last.
        labeller: Makes examples of lists whose window is over.
        lanes: Partitions of `examples`.
        at_once: Whether the scores of a list are an example of their own.
        batch: About so many lists are written in one commit.
        halt: Counts the records that cannot be used.

    Attributes:
        ticks: When a mark is due; at first never.
    """

    def __init__(
        self,
        stage: Stage,
        merge: Merge,
        window: Window,
        share: Share,
        kept: Kept,
        *,
        labeller: Labeller,
        lanes: int,
        at_once: bool,
        batch: int,
        halt: Halt,
    ) -> None:
        self.merge, self.window, self.share, self._halt = merge, window, share, halt
        self._stage, self._labeller, self._lanes, self._at_once, self._batch = stage, labeller, lanes, at_once, batch
        self._note, self._letters = kept.note, {tp: line.letters for tp, line in kept.lines.items()}
        self._closing = kept.note.closing  # whether a commit was full before all windows that were over were closed
        self._committed: Mapping[TopicPartition, int] = stage.position()
        self._saved_read = kept.read()
        self._made: list[Outgoing | Closed] = []  # in the order of the examples; a closed list is not made yet
        self._dead: _Dead = []
        self.ticks = Ticks(None, after_s=0.0)

    def resume(self, directory: Path | None, about: str) -> None:
        """Fills the window with what an earlier joiner had in it."""
        note, window = self._note, self.window
        kept = None if directory is None else snapshot.read(directory, about)
        if kept is not None and directory is not None and not _fits(kept, note, self._saved_read, self.merge):
            snapshot.drop(directory)
        elif kept is not None:
            window.take(kept.lists, kept.given)
            for tp in self._saved_read:
                one = kept.partitions[str(tp)]
                self.merge.go_on(tp, one.read, one.clock, one.marks)
        for each in self.merge.again(self._saved_read):
            self._add(each)
        window.resume(note.clock_us, note.ranking_clock_us, note.closed_us)
        self._saved_read = dict(self.merge.read)
        self.merge.clock_us = window.clock_us or -1
        self.share.bound(window.clock_us)

    def keep(self, directory: Path, about: str) -> None:
        """Writes a snapshot of the window as it is after the last commit."""
        if self._made or self._dead or self.merge.read != self._saved_read:
            return
        partitions = {str(tp): snapshot.Partition(read, *self.merge.marks(tp)) for tp, read in self._saved_read.items()}
        lists, given = self.window.content()
        made = snapshot.Snapshot(
            about=about,
            n=self._note.n,
            moved=self._note.moved,
            partitions=partitions,
            lists=lists,
            given=given,
        )
        snapshot.write(directory, made)

    def step(self, ends: Mapping[TopicPartition, int] | None, *, flush: bool) -> bool:
        """Joins some records and commits. Returns whether everything up to the ends is done."""
        window, finished = self.window, False
        if self._closing:
            self._close()
        else:
            for one in self.merge.take(ends, last=flush):
                flags = self._take(one)
                # Labels come behind a list that students learn. What else moves the clock, such as a list of somebody
                # who is held out, has no part in the order of examples.
                if flags is not None and flags & HELD:
                    self._add_closed(self.window.close(late=True))
                elif flags is not None:
                    self._close()
                    if self._closing:
                        break
            if ends is not None and not self._closing and self.merge.at_end(ends):
                self._close()
                finished = not self._closing
        if finished and flush:
            self._close(flush=True)
            finished = not len(window)
        made = self._resolve()
        position, lines = self._places()
        if made or self._dead or position != self._committed or self.merge.read != self._saved_read:
            self._commit(made, position, lines)
            self.ticks.moved()
        elif self.ticks.due(self.merge):
            self._commit([Outgoing("examples", None, key=b"tick", headers=(TICK,))], position, lines)
        else:
            self._stage.keep()
        return finished

    def _take(self, one: Waiting) -> int | None:
        """Takes a record in. Returns the flags of a list; None for anything else."""
        message, record = one.message, one.record
        self._halt.take([record if isinstance(record, DecodeError | AheadOfTime) else None])
        if isinstance(record, DecodeError | AheadOfTime):
            self.window.counts["ahead"] += isinstance(record, AheadOfTime)
            if message.offset >= self._letters[message.tp]:
                self._dead.append((message, record))
            return None
        before_us = self.window.clock_us
        if self.share.turns(one.order_us, before_us):
            self._resolve()
            self.share.turn(one.order_us)
        self.share.moved(before_us or one.order_us, one.order_us)
        flags = self._add(one)
        if isinstance(record, Head) and self._at_once and flags is not None and not flags & HELD:
            key = record.id.encode()
            value = example_around(record.value, [0.0] * record.candidates, "none", key=key)
            self._made.append(Outgoing("examples", value, key=key, source=message))
            self.ticks.wrote(message.time_us)
        return flags

    def _add(self, one: Waiting) -> int | None:
        """Adds a record to the window. Returns the flags of a list; None for anything else."""
        message, record = one.message, one.record
        if isinstance(record, Feedback):
            self.window.add_feedback(record, time_us=one.order_us, came_us=one.place_us)
        if not isinstance(record, Head):
            return None
        time_us = one.order_us
        if (problem := _no_room(record)) is not None:
            # The same when it is read again, so it is in no window then either. Its letter is written once.
            if message.offset >= max(self._letters[message.tp], self._saved_read[message.tp]):
                self._dead.append((message, problem))
            return None
        held = self.share.holds(record.id if record.user is None else record.user, time_us)
        flags = PRODUCT * (record.origin == "product") | SERVED * (record.origin == "served") | HELD * held
        self.window.add_list(
            record.id,
            time_us=time_us,
            came_us=one.place_us,
            partition=message.tp.partition,
            offset=message.offset,
            flags=flags,
        )
        return flags

    def _close(self, *, flush: bool = False) -> None:
        """Takes out lists whose window is over. Those that are not written are counted."""
        self._add_closed(self.window.close(self._batch, flush=flush))
        self._closing = self.window.due()

    def _add_closed(self, closed: Sequence[Closed]) -> None:
        for one in closed:
            if one.given or one.held_out or one.served or not self._at_once:
                self._made.append(one)
            else:
                self.window.counts["silent"] += one.product

    def _resolve(self) -> list[Outgoing]:
        """Makes examples of the lists that were closed, each at its place, so the order is not that of the commits."""
        closed = [one for one in self._made if isinstance(one, Closed)]
        made, dead = self._labeller.examples(closed) if closed else ([], [])
        by_place = {(one.source.tp.partition, one.source.offset): one for one in made if one.source is not None}
        whole = []
        for one in self._made:
            found = by_place.get((one.partition, one.offset)) if isinstance(one, Closed) else one
            if found is not None:
                whole.append(found)
        self._made = list(whole)
        self._dead += dead
        return whole

    def _places(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, str]]:
        """From where the window can be read again, and what is noted of each partition."""
        lists_us, given_us = self.window.needs_us()
        position, lines = {}, {}
        for tp in self._saved_read:
            needed_us = given_us if tp.topic == "feedback" else lists_us if len(self.window) else None
            position[tp], clock, forced = self.merge.place(tp, needed_us)
            line = Line(
                read=self.merge.read[tp],
                clock_us=clock.us,
                steps=clock.steps,
                log_time=clock.log_time,
                taken_us=clock.taken_us,
                forced=forced,
                letters=self._letters[tp],
            )
            lines[tp] = text_of(line)
        self.share.forget(lists_us)
        return position, lines

    def _commit(
        self, made: Sequence[Outgoing], position: Mapping[TopicPartition, int], lines: Mapping[TopicPartition, str]
    ) -> None:
        """Writes examples and dead letters with the places, all or nothing."""
        dead = self._dead
        self._made, self._dead = [], []
        n, window = self._note.n, self.window

        def noted(next_n: int) -> Note:
            return Note(
                n=next_n,
                clock_us=window.clock_us,
                ranking_clock_us=window.ranking_clock_us,
                version=VERSION,
                closed_us=window.closed_us,
                moved=self._note.moved,
                share=self.share.saved,
                closing=self._closing,
            )

        def prepare(refused: Container[int]) -> Delivery:
            # An example takes the next lane when it is written, so one that is refused must not take one.
            next_n, turned = n, []
            for place, one in enumerate(made):
                if one.topic == "examples" and place not in refused:
                    one = one._replace(partition=next_n % self._lanes)
                    next_n += 1
                turned.append(one)
            return Delivery(outgoing=turned, dead=dead, position=position, note=text_of(noted(next_n)), notes=lines)

        refused = deliver(self._stage, "join", prepare)
        written = [one.topic if one.value is not None else "marks" for n, one in enumerate(made) if n not in refused]
        counts = window.counts
        counts["dead_letters"] += len(dead) + len(refused)
        counts["examples"] += written.count("examples")
        counts["held_out"] += written.count(HELD_OUT.topic)
        counts["ticks"] += written.count("marks")
        counts["late_value"] = window.late_value()
        self._note = noted(n + written.count("examples") + written.count("marks"))
        self._committed, self._saved_read = position, dict(self.merge.read)


def _no_room(head: Head) -> DataError | None:
    """Why a log cannot take an example of a list; None where it can."""
    if len(head.value) + 4 * head.candidates + _AROUND < MAX_BYTES:
        return None
    try:
        example_around(head.value, [0.0] * head.candidates, "closed", key=head.id.encode())
    except DataError as e:
        return e
    return None


def _fits(kept: snapshot.Snapshot, note: Note, read: Mapping[TopicPartition, int], merge: Merge) -> bool:
    """Whether a snapshot is of an earlier commit of this joiner, and what came since can be read."""
    fits = kept.moved == note.moved and kept.n <= note.n
    fits = fits and kept.partitions.keys() == {str(tp) for tp in read}
    if not (fits and all(kept.partitions[str(tp)].read <= offset for tp, offset in read.items())):
        log_.warning("the snapshot is not of an earlier state of this joiner; the window is read from the log again")
        return False
    if not merge.holds({tp: kept.partitions[str(tp)].read for tp in read}):
        log_.warning("the snapshot is older than what the log holds; the window is read from the log again")
        return False
    return True

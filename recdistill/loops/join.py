"""Rankings + feedback -> examples: each ranking once, with the labels that came within a window of event time.

The messages of all partitions are taken in the order of their event times. So what the joiner writes depends on the
log, not on which partition was faster. The clock is the greatest event time so far. When the clock has passed the
window of a ranking, its example is written, first in first out. Example n goes to lane n mod L. No record can move the
clock further than a bound: one that is further ahead goes to the dead letters (`recdistill.loops.ahead`).

Feedback that comes after its window gives no label: its example may be learnt already. It is counted, with what it
would have given, and it stays in `feedback`.

Some lists were perhaps shown to nobody: those that the student answered or the prober asked for. Without feedback such
a list gets the label state `none`. So the student does not learn that every item in it is bad.

Nothing is kept outside the log. Each commit saves, for each ranking partition, the oldest ranking that is not written
yet; for each feedback partition, the oldest feedback that such a ranking still needs; a note with n and the clocks; and
for each partition a line: how far it was read, and what its guard knew. A restart first reads again what was read
already, and writes nothing of it. So it has the same window as before, and goes on.

It knows nothing of teachers or of training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Final, TypeVar

import msgspec

from recdistill.errors import AheadOfTime, ConfigError, DataError, DecodeError, StreamError
from recdistill.limits import MAX_WEIGHT
from recdistill.loops import ends_of
from recdistill.loops.ahead import Clock, Guard, Waiting
from recdistill.loops.begin import begun
from recdistill.loops.merge import Merge
from recdistill.loops.window import Closed, Window
from recdistill.progress import Progress
from recdistill.records import Feedback, Ranking, encode_around, key_of
from recdistill.stream import Delivery, Log, Message, Outgoing, Place, Stage, TopicPartition, deliver

log_ = logging.getLogger(__name__)

_Saved = TypeVar("_Saved")

LABELS: Final[Mapping[str, float]] = {"click": 1.0}
"""A click is a label, and nothing else is."""


class _Note(msgspec.Struct, omit_defaults=True):
    """What travels with a commit: the number of the next example, and the clocks.

    `read` is that of an older version: how far each partition was read. It has a line of its own now (`_Line`), since
    a note for all partitions has no room for many.
    """

    n: int = 0
    clock_us: int = 0
    ranking_clock_us: int = 0
    read: dict[str, int] = {}


class _Line(msgspec.Struct, array_like=True):
    """What travels with a commit for one partition: how far it was read, and what its guard knew at the position.

    What lies before `read` was joined or has had its dead letter, so a re-read writes nothing of it.
    """

    read: int = 0
    clock_us: int = -1
    steps: str = ""
    log_time: bool = True
    forced: dict[int, bool] = {}


_Dead = list[tuple[Message, Exception]]


class _Joiner:
    """The state of a joiner between two commits."""

    def __init__(self, stage: Stage, merge: Merge, window: Window, note: _Note, lanes: int) -> None:
        self.merge, self.window = merge, window
        self._stage, self._note, self._lanes = stage, note, lanes
        self._committed: Mapping[TopicPartition, int] = stage.position()
        self._read: Mapping[TopicPartition, int] = {}

    def resume(self, read: Mapping[TopicPartition, int]) -> None:
        """Fills the window with what an earlier joiner had in it."""
        # How far the rankings were that are not read again. Each counts from where it stood in the order.
        clocks = sorted((clock.us for tp, clock in self.merge.clocks().items() if tp.topic == "rankings"), reverse=True)
        for one in self.merge.again(read):
            while clocks and clocks[-1] <= one.place_us:
                self.window.forget_orphans(clocks.pop())
            self._add(one)
            self.window.forget_orphans()
        self.window.resume(self._note.clock_us, self._note.ranking_clock_us)
        self._read = dict(self.merge.read)
        self.merge.clock_us = self.window.clock_us or -1

    def step(self, ends: Mapping[TopicPartition, int] | None, *, flush: bool) -> bool:
        """Joins some records and commits. Returns whether everything up to the ends is done."""
        closed: list[Closed] = []
        dead: _Dead = []
        for one in self.merge.take(ends, last=flush):
            if isinstance(one.record, DecodeError | AheadOfTime):
                dead.append((one.message, one.record))
                self.window.counts["ahead"] += isinstance(one.record, AheadOfTime)
            self._add(one)
            closed.extend(self.window.closed_values())
        finished = ends is not None and self.merge.at_end(ends)
        if finished and flush:
            closed.extend(self.window.closed_values(flush=True))
        position = self.window.oldest_needed(self.merge.read)
        read_more = finished and self.merge.read != self._read  # so that nobody counts it twice
        if closed or dead or position != self._committed or read_more:
            self._commit(closed, dead, position)
        else:
            self._stage.keep()
        return finished

    def _add(self, one: Waiting) -> None:
        message, record = one.message, one.record
        if isinstance(record, Ranking):
            self.window.add_ranking(
                record,
                message.tp,
                message.offset,
                message.value or b"",
                time_us=one.order_us,
                at_us=message.time_us,
            )
        elif isinstance(record, Feedback):
            self.window.add_feedback(record, message.tp, message.offset, time_us=one.order_us)

    def _commit(self, closed: list[Closed], dead: _Dead, position: Mapping[TopicPartition, int]) -> None:
        """Writes examples and dead letters with the position from which the rest can be rebuilt, all or nothing."""
        made: list[Outgoing] = []
        for example, ranking, (tp, offset), at_us in closed:
            key = key_of(example)
            source = Message(tp=tp, offset=offset, key=key, value=ranking, time_us=at_us)
            try:
                made.append(Outgoing("examples", encode_around(example, ranking), key=key, source=source))
            except DataError as e:
                dead.append((source, e))
        n, clocks = self._note.n, (self.window.clock_us, self.window.ranking_clock_us)
        lines = {tp: self._line(tp, offset) for tp, offset in position.items()}

        def prepare(refused: Container[int]) -> Delivery:
            # An example takes the next lane when it is written, so one that is refused must not take one.
            written = iter(range(n, n + len(made)))
            turned = [
                one if place in refused else one._replace(partition=next(written) % self._lanes)
                for place, one in enumerate(made)
            ]
            note = _Note(next(written, n + len(made)), *clocks)
            return Delivery(outgoing=turned, dead=dead, position=position, note=_text(note), notes=lines)

        refused = deliver(self._stage, "join", prepare)
        self.window.counts["dead_letters"] += len(dead) + len(refused)
        self.window.counts["examples"] -= len(closed) - len(made) + len(refused)
        self._note = _Note(n + len(made) - len(refused), *clocks)
        self._committed, self._read = position, dict(self.merge.read)

    def _line(self, tp: TopicPartition, offset: int) -> str:
        clock, forced = self.merge.before(tp, offset)
        line = _Line(
            read=self.merge.read[tp],
            clock_us=clock.us,
            steps=clock.steps,
            log_time=clock.log_time,
            forced=forced,
        )
        return _text(line)


def run(
    log: Log,
    *,
    window_s: float = 1800.0,
    max_ahead_s: float = 600.0,
    labels: Mapping[str, float] = LABELS,
    batch: int = 1000,
    wait_s: float = 0.5,
    idle_s: float = 30.0,
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    flush: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Counter[str]:
    """Joins until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `rankings` and `feedback` are read, and `examples` and dead letters written.
        window_s: Event time that feedback may take. Then the example is closed.
        max_ahead_s: How far one record may move the clock; see `recdistill.loops.ahead`.
        labels: Weight of each action. An action that is not named, or has weight 0, gives no label.
        batch: Most messages read between two commits.
        wait_s: Longest wait for new messages.
        idle_s: A partition that is silent for so long no longer holds the order of the others back.
        begin: Where in `rankings` and `feedback` to begin; None: where it stopped.
        stop: Set it and what is closed is committed, then the function returns.
        drain: Return when everything that the log held at the start is taken. Rankings with an open window stay in it.
        flush: With `drain`: close every window at the end; for a log that gets no more.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        clock: Seconds, monotonic; for `idle_s` alone.

    Returns:
        Counts: rankings, feedback, examples, labelled (examples with a label above 0), late (feedback after its
        window), late_value (the labels it would have given), late_rankings (rankings after their own window),
        unlabelled_action, outside_the_list, dead_letters, ahead (those of the dead letters that were too far ahead in
        time). When draining: open, rankings that were read and not written; waiting, feedback whose list has not come.

    Raises:
        ConfigError: A label weight is negative, or the topics do not fit each other.
        StreamError: The log cannot be read or written, or another joiner took over.
    """
    inputs, lanes = _topics(log, labels)
    with begun(log, "join", "join", inputs, begin, moved=_moved) as (stage, source):
        note = _decoded(stage.note() or "{}", _Note)
        lines = {tp: _decoded(line, _Line) for tp, line in stage.notes().items()}
        lines = {tp: lines.get(tp) or _Line(note.read.get(str(tp), 0)) for tp in inputs}
        guards = {
            tp: Guard(max_ahead_s, Clock(line.clock_us, line.steps, line.log_time), line.forced)
            for tp, line in lines.items()
        }
        merge = Merge(source, guards, batch=batch, wait_s=wait_s, idle_s=idle_s, clock=clock)
        window = Window(round(window_s * 1e6), labels)
        joiner = _Joiner(stage, merge, window, note, lanes)
        ends = ends_of(source, inputs) if drain else None
        joiner.resume({tp: line.read for tp, line in lines.items()})
        window.counts = counts if counts is not None else window.counts
        start = dict(merge.read)
        total = sum(max(0, end - start[tp]) for tp, end in ends.items()) if ends else None
        finished = False
        while not finished and not stop.is_set():
            finished = joiner.step(ends, flush=flush)
            if progress:
                progress(sum(merge.read[tp] - start[tp] for tp in inputs), total)
        if drain:
            window.counts["open"], window.counts["waiting"] = len(window) + merge.waiting(), window.early()
            if finished:
                _explain(window, merge.waiting())
    return window.counts


def _explain(window: Window, waiting: int) -> None:
    """Says why a log that was drained gave no example, or few labels, where the times of its records show it."""
    counts, opened = window.counts, len(window)
    if opened and not counts["examples"] and window.one_time():
        log_.warning(
            "all %d lists that are open have one time, so no window was ever over: if their times are right, "
            "`recdistill join --flush` closes them",
            opened,
        )
    if window.days_only and counts["feedback"] and counts["late"]:
        log_.warning(
            "all times are whole days, so feedback of the next day is late: set join.window_s to 86400 or more"
        )
    if waiting:
        log_.warning(
            "%d rankings wait, since one before them is far ahead in time and too few records behind it tell whether "
            "the others follow; `recdistill join --flush` decides by those that are there",
            waiting,
        )
    if 2 * counts["late_rankings"] > counts["rankings"]:
        log_.warning(
            "%d of %d rankings came when their window was over already, so they had no time for feedback: write "
            "impressions in the order of their times",
            counts["late_rankings"],
            counts["rankings"],
        )


def _topics(log: Log, labels: Mapping[str, float]) -> tuple[list[TopicPartition], int]:
    """The input partitions and the number of lanes, after a look at whether settings and topics fit."""
    for action, weight in labels.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise ConfigError(
                f"join.labels.{action}: is {weight}; a label weight is at least 0 and at most {MAX_WEIGHT:g}"
            )
    topics = log.topics()
    missing = [name for name in ("rankings", "feedback", "examples") if name not in topics]
    if missing:
        raise StreamError(f"there is no topic {missing[0]!r}; make the topics with `recdistill topics create`")
    if topics["rankings"] != topics["feedback"]:
        raise ConfigError(
            f"rankings has {topics['rankings']} partitions and feedback {topics['feedback']}; "
            "they are joined by key and must have equal counts"
        )
    return [TopicPartition(name, p) for name in ("rankings", "feedback") for p in range(topics[name])], topics[
        "examples"
    ]


def _moved(note: str) -> str:
    """The note for another position: the lanes go on in their turn, and nothing behind the position was read before."""
    return _text(_Note(_decoded(note or "{}", _Note).n))


def _text(saved: _Note | _Line) -> str:
    return msgspec.json.encode(saved).decode()


def _decoded(text: str, kind: type[_Saved]) -> _Saved:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise StreamError(
            f"the note {text[:100]!r} at the joiner's position is not one of this version: {e}; "
            "go on with the version that wrote it"
        ) from e

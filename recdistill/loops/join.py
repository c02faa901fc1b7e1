"""Rankings + feedback -> examples: the scores of a list at once, its labels when a window of event time is over.

The messages of all partitions are taken in the order of their event times. The clock is the greatest event time so far.
Each ranking is written to `examples` at once, as an example of state `none`: its scores need no feedback. When the
clock has passed its window, and somebody took something from the list, it is written again, as an example of state
`labels`. Lists from which nobody took anything are only counted. With `soft = "with_labels"` there is one example for a
list, of state `closed`, when its window is over. Example n goes to lane n mod L.

The lists of some users are held out (`recdistill.loops.held`): they are in `held-out` alone, one of state `closed` for
each list when its window is over, also where nobody took anything.

No record can move the clock further than a bound: one that is further ahead goes to the dead letters
(`recdistill.loops.ahead`). Feedback that comes after its window gives no label. It is counted, with what it would have
given, and it stays in `feedback`. Some lists were perhaps shown to nobody: those that the student answered or the
prober asked for. Without feedback, their labels are not known.

The window holds ids, times and places (`recdistill.loops.window`). The bytes of a list that gets labels are read again,
by a second cursor.

Each commit saves a place in each partition, from which the window can be read again; a note with n and the clocks; and
for each partition a line: how far it was read, and what its guard knew at the place. Which lists are open and which
feedback still counts follows from the clocks alone. So a restart has the same window as before, and goes on. A snapshot
(`recdistill.loops.snapshot`) spares it most of the reading.

When nothing comes for a while, a mark is written to `examples`, so that students need not wait (`loops.ticks`).

It knows nothing of teachers or of training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, Literal

from recdistill.errors import ConfigError, StreamError
from recdistill.limits import MAX_WEIGHT
from recdistill.loops import ends_of
from recdistill.loops.begin import begun
from recdistill.loops.behind import Behind
from recdistill.loops.halt import Halt
from recdistill.loops.held import Share
from recdistill.loops.joiner import Joiner
from recdistill.loops.kept import Kept, moved, read_line, read_note
from recdistill.loops.labeller import Labeller
from recdistill.loops.merge import Merge
from recdistill.loops.ticks import Ticks
from recdistill.loops.window import Window
from recdistill.progress import Progress
from recdistill.stream import HELD_OUT, Log, Place, TopicPartition

log_ = logging.getLogger(__name__)

LABELS: Final[Mapping[str, float]] = {"click": 1.0}
"""A click is a label, and nothing else is."""


def run(
    log: Log,
    *,
    window_s: float = 1800.0,
    max_ahead_s: float = 600.0,
    labels: Mapping[str, float] = LABELS,
    soft: Literal["at_once", "with_labels"] = "at_once",
    tick_s: float = 0.0,
    held_out: tuple[float, float, float] = (0.0, 0.0, 1.0),
    directory: Path | None = None,
    snapshot_s: float = 60.0,
    batch: int = 1000,
    wait_s: float = 0.5,
    idle_s: float = 30.0,
    most_bad: tuple[int, int] = (0, 1000),
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
        log: Where `rankings` and `feedback` are read, and examples and dead letters written.
        window_s: Event time that feedback may take. Then the list is closed.
        max_ahead_s: How far one record may move the clock; see `recdistill.loops.ahead`.
        labels: Weight of each action. An action that is not named, or has weight 0, gives no label.
        soft: Whether the scores of a list are an example of their own at once, or with its labels.
        tick_s: After so many seconds of silence a mark is written; see `recdistill.loops.ticks`. 0: never. None is
            written where `drain` is set, or scores come with labels.
        held_out: Least and largest share of users that are held out, and how many labelled lists a day should be.
        directory: Where the snapshot lies; None: there is none.
        snapshot_s: How often it is written.
        batch: Most messages read between two commits.
        wait_s: Longest wait for new messages.
        idle_s: A partition that is silent for so long no longer holds the order of the others back.
        most_bad: So many of the last so many records may be bad; 0: any.
        begin: Where in `rankings` and `feedback` to begin; None: where it stopped.
        stop: Set it and what is done is committed, then the function returns.
        drain: Return when everything that the log held at the start is taken. Rankings with an open window stay in it.
        flush: With `drain`: close every window at the end; for a log that gets no more.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        clock: Seconds, monotonic; for `idle_s`, `tick_s` and `snapshot_s` alone.

    Returns:
        Counts: rankings, feedback, examples (what was written to `examples`), held_out (what was written there), closed
        (lists whose window is over), labelled (those with a label above 0), silent (those that the product showed, and
        nobody took anything), late (feedback that met no list), late_value (the labels it would have given),
        late_rankings (rankings after their own window), unlabelled_action, outside_the_list, dead_letters, ahead (those
        of the dead letters that were too far ahead in time), ticks. When draining: open, lists whose window is not
        over; waiting, feedback whose list has not come.

    Raises:
        ConfigError: A label weight is negative, or the topics do not fit each other.
        TooManyBad: Too many of the last records cannot be used.
        StreamError: The log cannot be read or written, or another joiner took over.
    """
    inputs, lanes = _topics(log, labels)
    window_us = round(window_s * 1e6)
    with begun(log, "join", "join", inputs, begin, moved=moved) as (stage, source):
        note = read_note(stage.note())
        lines = {tp: read_line(line) for tp, line in stage.notes().items()}
        kept = Kept(note, lines, stage.position(), inputs)
        merge = Merge(source, kept.guards(max_ahead_s), batch=batch, wait_s=wait_s, idle_s=idle_s, clock=clock)
        window = Window(window_us, labels)
        least, most, per_day = held_out if HELD_OUT.topic in log.topics() else (0.0, 0.0, 1.0)
        if held_out[1] and HELD_OUT.topic not in log.topics():
            log_.warning(
                "nothing is held out, since the log has no topic held-out; `recdistill topics create` makes it"
            )
        share = Share(least=min(least, most), most=most, per_day=per_day, saved=note.share)
        with ExitStack() as ending, closing(log.source([tp for tp in inputs if tp.topic == "rankings"])) as again:
            joiner = Joiner(
                stage,
                merge,
                window,
                share,
                kept,
                labeller=Labeller(
                    Behind(again), at_once=soft == "at_once", counts=lambda: window.counts, labelled=share.labelled
                ),
                lanes=lanes,
                at_once=soft == "at_once",
                batch=batch,
                halt=Halt("join", most=most_bad[0], of=most_bad[1]),
            )
            if tick_s and not drain and soft == "at_once":
                joiner.ticks = ending.enter_context(closing(Ticks(log, after_s=tick_s, clock=clock)))
            about = f"{source.identity()} {window_us} {max_ahead_s} {sorted(labels.items())}"
            ends = ends_of(source, inputs) if drain else None
            joiner.resume(directory, about)
            window.counts = counts if counts is not None else window.counts
            start = dict(merge.read)
            total = sum(max(0, end - start[tp]) for tp, end in ends.items()) if ends else None
            finished, kept_s = False, clock()
            while not finished and not stop.is_set():
                finished = joiner.step(ends, flush=flush)
                if directory is not None and clock() - kept_s >= snapshot_s:
                    joiner.keep(directory, about)
                    kept_s = clock()
                if progress:
                    progress(sum(merge.read[tp] - start[tp] for tp in inputs), total)
            if directory is not None:
                joiner.keep(directory, about)
        if drain:
            _count(window, merge)
            if finished:
                _explain(window, merge.waiting())
    return window.counts


def _count(window: Window, merge: Merge) -> None:
    """Counts what is left when a log was drained."""
    counts = window.counts
    waiting, late = window.waiting()
    counts["open"], counts["waiting"] = len(window) + merge.waiting(), waiting
    counts["late"] += late
    counts["late_value"] = window.late_value()


def _explain(window: Window, waiting: int) -> None:
    """Says why a log that was drained gave few labels, where the times of its records show it."""
    counts, opened = window.counts, len(window)
    if opened and not counts["closed"] and window.one_time():
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

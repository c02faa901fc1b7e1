"""Impressions + feedback -> a taught teacher, built-in or linear, for those who have no ranker of their own yet.

Feedback meets impressions in the same window in which the joiner lets it meet rankings. So the teacher learns from
labels that mean the same as the student's, and a record that is too far ahead in time is left out here too. The log
is read from its beginning to its present end, and nothing is committed.

It knows nothing of the teacher's architecture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from heapq import merge
from pathlib import Path
from typing import Any, Final

from recdistill.errors import AheadOfTime, DataError, DecodeError, TeacherError, UsageError
from recdistill.features import FeatureSpec
from recdistill.loops import ends_of, reached
from recdistill.loops.ahead import Guard, Waiting
from recdistill.loops.window import Window, labels_of
from recdistill.progress import Progress
from recdistill.records import Example, Feedback, Impression, Item, Ranking, decode, decode_item
from recdistill.sealed import put
from recdistill.stream import Log, Message, Place, TopicPartition, place_at, read_place, write_time
from recdistill.teachers.builtin import Training
from recdistill.teachers.linear import Blend

_Timed = Item | Impression | Feedback

log_ = logging.getLogger(__name__)

MAX_AHEAD_S: Final = 600.0
"""How far one record may move the clock, unless the caller says otherwise."""

_NO_BOUND_S: Final = 1e12
"""Items have no clock."""

UNSCORED = "nobody"
"""Teacher id of an impression that no teacher has scored."""


def labelled(
    log: Log,
    *,
    window_s: float,
    labels: Mapping[str, float],
    max_ahead_s: float = MAX_AHEAD_S,
    begin: Place | None = None,
    until_us: int | None = None,
) -> Iterator[Example]:
    """The impressions of a log with their labels, in the order of time; no candidate has a score.

    Args:
        log: Where `impressions` and `feedback` are read, to their present ends.
        window_s: Event time that feedback may take.
        labels: Weight of each action.
        max_ahead_s: How far one record may move the clock.
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out: they are for the judge. None: no list is left out.
    """
    topics = log.topics()
    window = Window(round(window_s * 1e6), labels)
    tps = [TopicPartition(name, p) for name in ("impressions", "feedback") for p in range(topics[name])]
    starts = {} if begin is None else place_at(log, tps, begin)
    timed = (_timed(log, tp, max_ahead_s, starts.get(tp)) for tp in tps)
    shown: dict[tuple[int, int], Impression] = {}
    for came_us, _, tp, offset, time_us, record in merge(*timed, key=lambda entry: entry[:4]):
        if isinstance(record, Impression):
            if until_us is not None and record.time_us >= until_us:
                continue
            shown[tp.partition, offset] = record
            window.add_list(record.id, time_us=time_us, came_us=came_us, partition=tp.partition, offset=offset)
        elif isinstance(record, Feedback):
            window.add_feedback(record, time_us=time_us, came_us=came_us)
        yield from _closed(window, shown)
    yield from _closed(window, shown, flush=True)


def _closed(window: Window, shown: dict[tuple[int, int], Impression], *, flush: bool = False) -> Iterator[Example]:
    """Takes out the lists whose window is over, with their labels."""
    if not window.due(flush=flush):
        return
    for one in window.close(flush=flush):
        impression = shown.pop((one.partition, one.offset))
        labels, _ = labels_of([candidate.item for candidate in impression.candidates], one.given)
        none = (0.0,) * len(labels)
        ranking = Ranking(impression, UNSCORED, "", "unbounded", scores=none, scored=(False,) * len(none))
        yield Example(
            ranking, tuple(labels), "closed" if one.given or impression.origin in ("product", "served") else "none"
        )


def run(
    log: Log,
    spec: FeatureSpec,
    training: Training,
    out: Path,
    *,
    window_s: float,
    labels: Mapping[str, float],
    max_ahead_s: float = MAX_AHEAD_S,
    begin: Place | None = None,
    until_us: int | None = None,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains the built-in teacher on what the log holds and saves it.

    Args:
        log: Where `items`, `impressions` and `feedback` are read.
        spec: What a model sees.
        training: Size and schedule of the teacher.
        out: Folder to write; it must not exist yet.
        window_s: Event time that feedback may take.
        labels: Weight of each action.
        max_ahead_s: How far one record may move the clock.
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out. None: no list is.
        keep: Where a transformer keeps the state of its training, and goes on from it.
        progress: Told how far the training is.

    Returns:
        Figures of the training, as the teacher gives them.

    Raises:
        DataError: The log holds no impression with a label.
    """
    from recdistill.teachers.builtin import teacher as builtin

    every = labelled(log, window_s=window_s, labels=labels, max_ahead_s=max_ahead_s, begin=begin, until_us=until_us)
    latest: list[int] = []
    examples = [example for example in _timing(every, latest) if any(example.labels)]
    if not examples:
        raise DataError("no impression of this log has a label; see join.labels and join.window_s, and send feedback")
    items = [record for *_, record in _timed(log, TopicPartition("items", 0), _NO_BOUND_S) if isinstance(record, Item)]
    figures: dict[str, Any] = builtin.train_teacher(examples, items, spec, training, out, keep=keep, progress=progress)
    return {**figures, "latest_list": write_time(latest[0])}


def run_linear(
    log: Log,
    blend: Blend,
    out: Path,
    *,
    window_s: float,
    labels: Mapping[str, float],
    max_ahead_s: float = MAX_AHEAD_S,
    begin: Place | None = None,
    until_us: int | None = None,
) -> dict[str, Any]:
    """Fits the linear teacher to what the log holds and saves it; histories alone will do, without any feedback.

    Args:
        log: Where `impressions` and `feedback` are read.
        blend: What is fitted.
        out: Folder to write; it must not exist yet.
        window_s: Event time that feedback may take.
        labels: Weight of each action.
        max_ahead_s: How far one record may move the clock.
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out. None: no list is.

    Returns:
        Figures, as the teacher gives them.

    Raises:
        TeacherError: The log shows no interaction, or the folder cannot be written.
    """
    from recdistill.teachers.linear import teacher as linear

    every = labelled(log, window_s=window_s, labels=labels, max_ahead_s=max_ahead_s, begin=begin, until_us=until_us)
    latest: list[int] = []
    figures = linear.train_linear_teacher(_timing(every, latest), blend, out)
    return {**figures, "latest_list": write_time(latest[0])}


def note(teacher: Path, latest_list: str) -> None:
    """Writes down, beside a teacher's folder, the time of the latest list that it learnt from.

    A kill leaves the note that was there: without one, the judge would take lists that the teacher has seen.

    Raises:
        TeacherError: It cannot be written.
    """
    put(_note_of(teacher), json.dumps({"latest_list": latest_list}).encode() + b"\n", TeacherError)


def taught_us(teacher: Path) -> int | None:
    """The time of the latest list that a teacher learnt from. None: nobody has written it down."""
    try:
        return read_place(json.loads(_note_of(teacher).read_text(encoding="utf-8"))["latest_list"]).time_us
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError):
        return None


def _note_of(teacher: Path) -> Path:
    return teacher.with_name(teacher.name + ".taught.json")


def _timing(examples: Iterable[Example], latest: list[int]) -> Iterator[Example]:
    """The examples as they are. `latest` gets the time of the latest list."""
    for example in examples:
        latest[:] = [max([*latest, example.ranking.impression.time_us])]
        yield example


def _timed(
    log: Log, tp: TopicPartition, max_ahead_s: float, start: int | None = None
) -> Iterator[tuple[int, int, TopicPartition, int, int, _Timed]]:
    """A partition's records, each with what it is merged by and its own time.

    They are merged by the greatest time so far, impressions first, then partition and offset.
    """
    latest, left_out = 0, 0
    for one in _guarded(log, tp, max_ahead_s, start):
        record = one.record
        if isinstance(record, AheadOfTime):  # the joiner writes its dead letter
            log_.info("%s at %d is left out: %s", tp, one.message.offset, record)
            left_out += 1
        elif isinstance(record, Item | Impression | Feedback):  # scorer and joiner write dead letters of the others
            # Out-of-order records keep their place in the log: a merge needs rising keys.
            latest = max(latest, one.order_us)
            yield latest, int(isinstance(record, Feedback)), tp, one.message.offset, one.order_us, record
    if left_out:
        log_.warning(
            "%d records of %s are left out: their times are too far ahead (join.max_ahead_s); --verbose shows each one",
            left_out,
            tp,
        )


def _guarded(log: Log, tp: TopicPartition, max_ahead_s: float, start: int | None) -> Iterator[Waiting]:
    kinds: dict[str, type[_Timed]] = {"items": Item, "impressions": Impression, "feedback": Feedback}
    kind = kinds[tp.topic]
    guard = Guard(max_ahead_s)
    with closing(log.source([tp], None if start is None else {tp: start})) as source:
        ends = ends_of(source, [tp])
        while not (done := reached(source.position(), ends)) or len(guard):
            for message in source.read(1000, 0.2) if not done else ():
                if message.offset < ends[tp]:
                    guard.put(message, _decoded(kind, message))
            while guard.decide(last=done):
                yield guard.pop()


def _decoded(kind: type[_Timed], message: Message) -> _Timed | DecodeError:
    try:
        return decode_item(message.key, message.value) if kind is Item else decode(kind, message.value)
    except DecodeError as e:
        return e

"""Impressions + feedback -> a taught teacher, built-in or linear, for those who have no ranker of their own yet.

Feedback meets impressions in the same window in which the joiner lets it meet rankings. So the teacher learns from
labels that mean the same as the student's. The log is read from its beginning to its present end, and nothing is
committed.

It knows nothing of the teacher's architecture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from pathlib import Path
from typing import Any

from recdistill.config import LinearTeacherSettings, TeacherTraining
from recdistill.errors import DataError, DecodeError, TeacherError, UsageError
from recdistill.features import FeatureSpec
from recdistill.loops import ends_of, reached
from recdistill.loops.window import Window
from recdistill.progress import Progress
from recdistill.records import Example, Feedback, Impression, Item, Ranking, decode, decode_item
from recdistill.stream import Log, Place, TopicPartition, place_at, read_place, write_time

_Timed = Item | Impression | Feedback

UNSCORED = "nobody"
"""Teacher id of an impression that no teacher has scored."""


def labelled(
    log: Log,
    *,
    window_s: float,
    labels: Mapping[str, float],
    begin: Place | None = None,
    until_us: int | None = None,
) -> Iterator[Example]:
    """The impressions of a log with their labels, in the order of time; no candidate has a score.

    Args:
        log: Where `impressions` and `feedback` are read, to their present ends.
        window_s: Event time that feedback may take.
        labels: Weight of each action.
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out: they are for the judge. None: no list is left out.
    """
    topics = log.topics()
    window = Window(round(window_s * 1e6), labels)
    tps = [TopicPartition(name, p) for name in ("impressions", "feedback") for p in range(topics[name])]
    starts = {} if begin is None else place_at(log, tps, begin)
    timed = (_timed(log, tp, starts.get(tp)) for tp in tps)
    for _, _, tp, offset, record in merge(*timed, key=lambda entry: entry[:4]):
        if isinstance(record, Impression):
            if until_us is not None and record.time_us >= until_us:
                continue
            none = (0.0,) * len(record.candidates)
            ranking = Ranking(record, UNSCORED, "", "unbounded", scores=none, scored=(False,) * len(none))
            window.add_ranking(ranking, tp, offset)
        elif isinstance(record, Feedback):
            window.add_feedback(record, tp, offset)
        yield from window.closed()
    yield from window.closed(flush=True)


def run(
    log: Log,
    spec: FeatureSpec,
    training: TeacherTraining,
    out: Path,
    *,
    window_s: float,
    labels: Mapping[str, float],
    begin: Place | None = None,
    until_us: int | None = None,
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
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out. None: no list is.
        progress: Told how far the training is.

    Returns:
        Figures of the training, as the teacher gives them.

    Raises:
        DataError: The log holds no impression with a label.
    """
    from recdistill.teachers.builtin import teacher as builtin

    every = labelled(log, window_s=window_s, labels=labels, begin=begin, until_us=until_us)
    latest: list[int] = []
    examples = [example for example in _timing(every, latest) if any(example.labels)]
    if not examples:
        raise DataError("no impression of this log has a label; see join.labels and join.window_s, and send feedback")
    items = [record for _, _, _, _, record in _timed(log, TopicPartition("items", 0)) if isinstance(record, Item)]
    figures: dict[str, Any] = builtin.train_teacher(examples, items, spec, training, out, progress=progress)
    return {**figures, "latest_list": write_time(latest[0])}


def run_linear(
    log: Log,
    settings: LinearTeacherSettings,
    out: Path,
    *,
    window_s: float,
    labels: Mapping[str, float],
    begin: Place | None = None,
    until_us: int | None = None,
) -> dict[str, Any]:
    """Fits the linear teacher to what the log holds and saves it; histories alone will do, without any feedback.

    Args:
        log: Where `impressions` and `feedback` are read.
        settings: What is fitted.
        out: Folder to write; it must not exist yet.
        window_s: Event time that feedback may take.
        labels: Weight of each action.
        begin: Where in `impressions` and `feedback` to begin; None: at their beginnings.
        until_us: Lists from this time on are left out. None: no list is.

    Returns:
        Figures, as the teacher gives them.

    Raises:
        TeacherError: The log shows no interaction, or the folder cannot be written.
    """
    from recdistill.teachers.linear import teacher as linear

    every = labelled(log, window_s=window_s, labels=labels, begin=begin, until_us=until_us)
    latest: list[int] = []
    figures = linear.train_linear_teacher(_timing(every, latest), settings, out)
    return {**figures, "latest_list": write_time(latest[0])}


def note(teacher: Path, latest_list: str) -> None:
    """Writes down, beside a teacher's folder, the time of the latest list that it learnt from.

    Raises:
        TeacherError: It cannot be written.
    """
    path = _note_of(teacher)
    try:
        path.write_text(json.dumps({"latest_list": latest_list}) + "\n", encoding="utf-8")
    except OSError as e:
        raise TeacherError(f"{path}: cannot be written ({e.strerror})") from e


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
    log: Log, tp: TopicPartition, start: int | None = None
) -> Iterator[tuple[int, int, TopicPartition, int, _Timed]]:
    """A partition's records with what they are merged by: time, impressions first, partition, offset."""
    kinds: dict[str, type[_Timed]] = {"items": Item, "impressions": Impression, "feedback": Feedback}
    kind = kinds[tp.topic]
    source = log.source([tp], None if start is None else {tp: start})
    ends = ends_of(source, [tp])
    latest = 0
    try:
        while not reached(source.position(), ends):
            for message in source.read(1000, 0.2):
                if message.offset >= ends[tp]:
                    break
                try:
                    record = decode_item(message.key, message.value) if kind is Item else decode(kind, message.value)
                except DecodeError:  # the scorer and the joiner write its dead letter
                    continue
                # Out-of-order records keep their place in the log: a merge needs rising keys.
                latest = max(latest, record.time_us)
                yield latest, int(kind is Feedback), tp, message.offset, record
    finally:
        source.close()

"""Impressions -> rankings: the teacher scores each candidate list, and each ranking is written exactly once.

A batch is read, decoded and scored; then one transaction writes its rankings (into the partition the impression came
from, so that order is kept), its dead letters, and the position behind the batch. A crash anywhere before the commit
leaves nothing behind, and the batch is scored again. An impression that does not decode, or that the teacher fails
on, goes to the dead-letter topic whole and holds nobody up; a teacher that fails altogether, or on many in a row,
raises, and nothing is committed.

It knows nothing of how a teacher works, nor of what becomes of a ranking.

Example:
    >>> partitions_of(8, worker=1, workers=3)
    [1, 4, 7]
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from recdistill.config import ScoreSettings
from recdistill.errors import ConfigError, DecodeError, StreamError, TeacherError
from recdistill.loops import Progress, ends_of, reached
from recdistill.records import DEAD_LETTERS, Impression, Item, Ranking, decode, encode, key_of
from recdistill.stream import Log, Message, Source, TopicPartition, dead_letter
from recdistill.teachers import Scores, Teacher

log_ = logging.getLogger(__name__)

ITEMS = TopicPartition("items", 0)


def partitions_of(count: int, *, worker: int, workers: int) -> list[int]:
    """The partitions of one worker: static, so that a restart reads the same ones."""
    if worker >= workers:
        raise ConfigError(
            f"score.worker: is {worker}, but there are only {workers} workers; number them 0 to {workers - 1}"
        )
    return [p for p in range(count) if p % workers == worker]


def run(
    log: Log,
    teacher: Teacher,
    settings: ScoreSettings,
    *,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Counter[str]:
    """Scores until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `impressions` and `items` are read and `rankings` and dead letters are written.
        teacher: Who scores.
        settings: Batch size, waits, which partitions.
        stop: Set it and the batch in work is finished and committed, then the function returns.
        drain: Return when everything that the log held at the start is scored.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        clock_us: Wall clock in microseconds, for `scored_at_us`.

    Returns:
        Counts: impressions, rankings, scores, missing, dead_letters, items, batches.

    Raises:
        TeacherError: The teacher failed as a whole.
        StreamError: The log cannot be read or written, or another scorer of this name took over.
    """
    counts = Counter() if counts is None else counts
    total_partitions = log.topics().get("impressions")
    if total_partitions is None:
        raise StreamError("there is no topic 'impressions'; make the topics with `recdistill topics create`")
    own = partitions_of(total_partitions, worker=settings.worker, workers=settings.workers)
    inputs = [TopicPartition("impressions", p) for p in own]
    if not inputs:
        log_.warning(
            "worker %d has no partition to read: %d partitions, %d workers",
            settings.worker,
            total_partitions,
            settings.workers,
        )
    stage = log.stage(f"score-{settings.worker}", inputs)
    source = log.source(inputs, stage.position())
    items = log.source([ITEMS])
    try:
        ends = ends_of(source, inputs)
        start = source.position()
        failures = 0
        total = sum(end - start.get(tp, 0) for tp, end in ends.items()) if drain else None
        while not stop.is_set() and not (drain and reached(source.position(), ends)):
            as_of = _apply_items(items, teacher, counts)
            messages = source.read(settings.batch, settings.wait_s)
            if not messages:
                continue
            scored, dead = _score(messages, teacher, settings.deadline_s)
            failures = 0 if scored else failures + sum(isinstance(error, TeacherError) for _, error in dead)
            if failures > settings.give_up_after:
                raise TeacherError(
                    f"teacher {teacher.id} failed on {failures} impressions in a row, last: {dead[-1][1]}; "
                    "nothing of this batch was written, so mend the teacher and start the scorer again"
                )
            now_us = clock_us()
            position = source.position()
            with stage.transaction() as transaction:
                for message, impression, result in scored:
                    ranking = Ranking(
                        impression=impression,
                        teacher_id=teacher.id,
                        teacher_version=teacher.version,
                        scale=teacher.scale,
                        scores=tuple(result.values_L.tolist()),
                        scored=tuple(result.scored_L.tolist()),
                        scored_at_us=now_us,
                        catalogue_as_of=as_of,
                    )
                    transaction.send("rankings", encode(ranking), key=key_of(ranking), partition=message.tp.partition)
                for message, error in dead:
                    value, headers = dead_letter(message, error, "score")
                    transaction.send(DEAD_LETTERS, value, key=message.key, headers=headers)
                transaction.commit_inputs(position)
            _count(counts, scored, dead)
            if progress:
                progress(sum(position.get(tp, 0) - start.get(tp, 0) for tp in inputs), total)
    finally:
        source.close()
        items.close()
        stage.close()
    return counts


Scored = list[tuple[Message, Impression, Scores]]
Dead = list[tuple[Message, Exception]]


def _score(messages: Sequence[Message], teacher: Teacher, deadline_s: float) -> tuple[Scored, Dead]:
    """Decodes and scores a batch; what cannot be decoded or scored comes back as dead."""
    dead: Dead = []
    decoded: list[tuple[Message, Impression]] = []
    for message in messages:
        try:
            decoded.append((message, decode(Impression, message.value)))
        except DecodeError as e:
            dead.append((message, e))
    results = teacher.score([impression for _, impression in decoded], deadline_s=deadline_s) if decoded else []
    if len(results) != len(decoded):
        raise TeacherError(
            f"teacher {teacher.id}: answered {len(results)} of {len(decoded)} impressions; it must answer each one"
        )
    scored: Scored = []
    for (message, impression), result in zip(decoded, results, strict=True):
        error = result if isinstance(result, TeacherError) else _misfit(impression, result)
        if error is not None:
            dead.append((message, error))
        elif not isinstance(result, TeacherError):
            scored.append(
                (message, impression, Scores(np.where(result.scored_L, result.values_L, 0.0), result.scored_L))
            )
    return scored, dead


def _misfit(impression: Impression, scores: Scores) -> TeacherError | None:
    """Why a teacher's answer does not fit its list, or None: a length that is off, or a score that is no number."""
    length = len(impression.candidates)
    if scores.values_L.shape != (length,) or scores.scored_L.shape != (length,):
        return TeacherError(
            f"impression {impression.id}: {length} candidates, but scores of shape {scores.values_L.shape}"
        )
    if not np.isfinite(scores.values_L[scores.scored_L]).all():
        return TeacherError(
            f"impression {impression.id}: a score of the teacher is not a finite number; mask what it cannot score"
        )
    return None


def _apply_items(items: Source, teacher: Teacher, counts: Counter[str]) -> int:
    """Brings the teacher's catalogue up to the end of `items`; returns the position it now stands at."""
    while items.position()[ITEMS] < items.bounds(ITEMS)[1]:
        records = []
        for message in items.read(1000, 0.1):
            try:
                records.append(decode(Item, message.value))
            except DecodeError as e:
                # The distiller owns this record's dead letter; here it only must not stop the scoring.
                log_.warning("item at %d does not decode and is passed over: %s", message.offset, e)
                counts["bad_items"] += 1
        teacher.apply_items(records)
        counts["items"] += len(records)
    return items.position()[ITEMS]


def _count(counts: Counter[str], scored: Scored, dead: Dead) -> None:
    answered = sum(int(result.scored_L.sum()) for _, _, result in scored)
    counts["impressions"] += len(scored) + len(dead)
    counts["rankings"] += len(scored)
    counts["scores"] += answered
    counts["missing"] += sum(len(impression.candidates) for _, impression, _ in scored) - answered
    counts["dead_letters"] += len(dead)
    counts["batches"] += 1
    for message, error in dead:
        log_.warning("dead letter from %s/%d at %d: %s", message.tp.topic, message.tp.partition, message.offset, error)

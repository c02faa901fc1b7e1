"""Impressions -> rankings: the teacher scores each candidate list, and each ranking is written exactly once.

A batch is read, decoded and scored. Then one transaction writes its rankings, its dead letters, and the position after
the batch. A ranking goes to the partition that its impression came from, so the order is kept. After a crash before the
commit nothing is written, and the batch is scored again. A position belongs to its partition, so another number of
scorers goes on where the last ones stopped, and one that still works on such a partition is fenced.

An impression that does not decode, that the teacher fails on, or whose ranking the log does not take, goes to the dead
letters. The others go on. A score that is no finite number, or is far too large, is masked.
When the teacher cannot answer at all, the scorer waits and tries the same messages again. When patience is at its end,
or when the teacher failed on many in a row, the scorer raises, and nothing is committed.

Under a budget the teacher is asked about a part only (`recdistill.budget` says which). A list that it is not asked
about still gives a ranking, with no scores, so that its labels teach.

It knows nothing of how a teacher works, nor of what becomes of a ranking.

Example:
    >>> missing = Scored()  # nothing was scored yet
    >>> _missing(missing)
    {'asked': 0, 'missing': 0}
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from recdistill.budget import Choice, Chooser, groups, offset_header, restore
from recdistill.errors import DataError, DecodeError, StreamError, TeacherError
from recdistill.hops import passed
from recdistill.loops import ends_of, reached
from recdistill.loops.again import Again
from recdistill.loops.begin import begun, check_counts
from recdistill.loops.follow import new_items
from recdistill.loops.halt import Halt
from recdistill.loops.missing import Missing
from recdistill.loops.patience import patiently
from recdistill.loops.workers import STAGE, former_stages, partitions_of
from recdistill.progress import Progress
from recdistill.records import Impression, Ranking, encode, encode_around, key_of, read_impressions
from recdistill.stream import ITEMS, Delivery, Log, Message, Outgoing, Place, Position, Source, TopicPartition, deliver
from recdistill.teachers import CachedTeacher, Scores, Teacher, asked_again, masked, misfit

log_ = logging.getLogger(__name__)


def run(
    log: Log,
    teacher: Teacher,
    *,
    batch: int = 256,
    wait_s: float = 0.5,
    deadline_s: float = 30.0,
    give_up_after: int = 100,
    patience_s: float = 600.0,
    budget: float = 1.0,
    budget_by: Literal["lists", "candidates"] = "candidates",
    again: int = 0,
    most_missing: float = 1.0,
    cost_per_1000: float = 0.0,
    worker: int = 0,
    workers: int = 1,
    most_bad: tuple[int, int] = (0, 1000),
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Counter[str]:
    """Scores until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `impressions` and `items` are read and `rankings` and dead letters are written.
        teacher: Who scores. What a `CachedTeacher` answers from its cache is counted as saved.
        batch: Most impressions scored, and committed, at once.
        wait_s: Longest wait for the first impression of a batch.
        deadline_s: Time the teacher has for one batch.
        give_up_after: Teacher failures in a row after which the scorer raises.
        patience_s: How long a teacher that cannot answer at all is waited for.
        budget: Share of the candidates that the teacher is asked about; 1: all of them.
        budget_by: Under a budget, leave out candidates of each list, or whole lists.
        again: So many of the teacher's first requests are asked again for each block of a partition; 0: none.
        most_missing: Largest share of the candidates that may be without a score; 1: any.
        cost_per_1000: What a thousand scores of the teacher cost; 0: nobody counts it.
        worker: This worker's number.
        workers: How many workers share the partitions.
        most_bad: So many of the last so many impressions may be bad; 0: any.
        begin: Where in `impressions` to begin; None: where it stopped.
        stop: Set it and the batch in work is finished and committed, then the function returns.
        drain: Return when everything that the log held at the start is scored.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        clock_us: Wall clock in microseconds, for `scored_at_us`.

    Returns:
        Counts: impressions, rankings, asked (candidates put to the teacher), spared (those that were not), scores,
        missing, dead_letters, items, batches, waits (for the teacher), scoring_ms (what its answers took),
        asked_again (lists). With a
        cache: cache_hits, the candidates of `asked` that the teacher itself was not asked about. Where something was
        saved: saved_ms, in proportion to what the rest took, and saved_cost_thousandths, by `cost_per_1000`.

    Raises:
        TeacherError: The teacher as a whole could not answer for `patience_s`, or failed on too many in a row.
        TooManyBad: Too many of the last impressions cannot be used.
        StreamError: The log cannot be read or written, or another scorer took over one of the partitions.
    """
    counts = Counter() if counts is None else counts
    topics = log.topics()
    total_partitions = topics.get("impressions")
    if total_partitions is None:
        raise StreamError("there is no topic 'impressions'; make the topics with `recdistill topics create`")
    check_counts(topics, "impressions", "rankings")
    own = partitions_of(total_partitions, worker=worker, workers=workers)
    inputs = [TopicPartition("impressions", p) for p in own]
    if not inputs:
        log_.warning(
            "worker %d has no partition to read: %d partitions, %d workers",
            worker,
            total_partitions,
            workers,
        )
    chooser = Chooser(budget, budget_by)
    cache = teacher if isinstance(teacher, CachedTeacher) else None
    _check_names(teacher)
    itself = cache.teacher if cache else teacher
    halt = Halt("score", most=most_bad[0], of=most_bad[1])
    missing = Missing(teacher.id, most=most_missing, why=getattr(itself, "why_missing", str))
    with (
        begun(log, "score", STAGE, inputs, begin, shared=True, formerly=former_stages(total_partitions)) as (
            stage,
            source,
        ),
        closing(log.source([ITEMS])) as items,
    ):
        repeats = Again(log, itself, each=again if asked_again(itself) else 0, partitions=total_partitions)
        if budget < 1:
            taken = restore(chooser, log, stage.position())
            log_.info("the choice under the budget rests on %d rankings that were there", taken)
        ends = ends_of(source, inputs)
        start = source.position()
        failures = 0
        total = sum(end - start.get(tp, 0) for tp, end in ends.items()) if drain else None
        while not stop.is_set() and not (drain and reached(source.position(), ends)):
            messages = source.read(batch, wait_s)
            # Only now: items that came while it waited for these lists belong to them.
            as_of = _apply_items(items, teacher, counts, repeats)
            if not messages:
                stage.keep()
                continue
            scored: Scored = []
            dead: Dead = []
            worked_s = 0.0
            for group in groups(messages):
                answer = patiently(
                    partial(_score, group, teacher, deadline_s, chooser, as_of, clock_us, repeats),
                    patience_s,
                    stop=stop,
                    waited=partial(counts.update, ("waits",)),
                )
                if answer is None:  # stopped while waiting: nothing of this batch is written
                    return counts
                some, failed, seconds = answer
                worked_s += seconds
                # The rankings of one block are what the choice in the next one rests on.
                for one in some:
                    chooser.learn(one.ranking, one.message.tp, one.message.offset)
                scored += some
                dead += failed
            failures = 0 if scored else failures + sum(isinstance(error, TeacherError) for _, error in dead)
            if failures > give_up_after:
                raise TeacherError(
                    f"teacher {teacher.id} failed on {failures} impressions in a row, last: {dead[-1][1]}; "
                    "nothing of this batch was written, so mend the teacher and start the scorer again"
                )
            failed_at = {(message.tp, message.offset): error for message, error in dead}
            halt.take([failed_at.get((message.tp, message.offset)) for message in messages])
            position = source.position()
            missing.take(**_missing(scored), last=drain and reached(position, ends))
            kept = repeats.outgoing()
            refused = deliver(stage, "score", partial(_delivery, scored, kept, dead, position))
            if refused and budget < 1:
                # The choice rests on the rankings that are in the log, and these are not.
                chooser = Chooser(budget, budget_by)
                restore(chooser, log, position)
            dead += [(scored[place].message, error) for place, error in refused.items() if place < len(scored)]
            scored = [one for place, one in enumerate(scored) if place not in refused]
            _count(counts, scored, dead, worked_s)
            passed(counts, "scored", [one.ranking.impression.time_us for one in scored], at_us=clock_us())
            counts["asked_again"] = repeats.asked
            if budget < 1 or cache:
                _count_savings(counts, cache.hits if cache else 0, cost_per_1000)
            if progress:
                progress(sum(position.get(tp, 0) - start.get(tp, 0) for tp in inputs), total)
    return counts


class _One(NamedTuple):
    """A list that was scored."""

    message: Message
    ranking: Ranking
    value: bytes
    asked: int
    """How many candidates were put to the teacher."""


EMPTY: Final = (
    "the catalogue is empty, and a student learns of a list only the items that were there when it was scored; "
    "import the items before the lists"
)

Scored = list[_One]
Dead = list[tuple[Message, Exception]]


def _delivery(scored: Scored, kept: list[Outgoing], dead: Dead, position: Position, _refused: object) -> Delivery:
    rankings = [
        Outgoing(
            topic="rankings",
            value=one.value,
            key=key_of(one.ranking),
            partition=one.message.tp.partition,
            headers=(offset_header(one.message.offset),),
            source=one.message,
        )
        for one in scored
    ]
    return Delivery([*rankings, *kept], dead, position)


def _score(
    messages: Sequence[Message],
    teacher: Teacher,
    deadline_s: float,
    chooser: Chooser,
    as_of: int,
    clock_us: Callable[[], int],
    repeats: Again,
) -> tuple[Scored, Dead, float]:
    """Decodes and scores some messages; what could not be comes back as dead, and last the seconds of the teacher."""
    repeats.look(messages, deadline_s)
    dead: Dead = []
    chosen: list[tuple[Message, Impression, Choice]] = []
    for message, found in zip(messages, read_impressions([one.value for one in messages]), strict=True):
        if isinstance(found, DecodeError):
            dead.append((message, found))
        else:
            chosen.append((message, found, chooser.choose(found, message.tp, message.offset)))
    asked = [_part(impression, choice) for _, impression, choice in chosen if _asks(choice)]
    began = time.perf_counter()
    results = teacher.score(asked, deadline_s=deadline_s) if asked else []
    seconds = time.perf_counter() - began
    if len(results) != len(asked):
        raise TeacherError(
            f"teacher {teacher.id}: answered {len(results)} of {len(asked)} impressions; it must answer each one"
        )
    _check_names(teacher)
    now_us = clock_us()
    scored: Scored = []
    answers = iter(zip(asked, results, strict=True))
    for message, impression, choice in chosen:
        length = len(impression.candidates)
        scores = Scores(np.zeros(length, np.float32), np.zeros(length, bool))
        if _asks(choice):
            part, result = next(answers)
            error = result if isinstance(result, TeacherError) else misfit(part, result)
            if error is not None:
                dead.append((message, error))
                continue
            if not isinstance(result, TeacherError):
                scores.values_L[choice.chosen_L], scores.scored_L[choice.chosen_L] = masked(result)
        ranking = Ranking(
            impression=impression,
            teacher_id=teacher.id,
            teacher_version=teacher.version,
            scale=teacher.scale,
            scores=tuple(scores.values_L.tolist()),
            scored=tuple(scores.scored_L.tolist()),
            scored_at_us=now_us,
            catalogue_as_of=as_of,
            sampled=choice.sampled,
            candidates_sampled=choice.candidates_sampled,
        )
        try:
            ranking = repeats.took(ranking, message)
            # A ranking is there only where its impression was decoded, so there is a value.
            value = encode_around(ranking, message.value or b"")
        except DataError as e:
            dead.append((message, e))
        else:
            scored.append(_One(message, ranking, value, int(choice.chosen_L.sum())))
    return scored, dead, seconds


def _asks(choice: Choice) -> bool:
    """Whether the teacher is to see the list. One without candidates is its to answer or refuse."""
    return bool(choice.chosen_L.any()) or not len(choice.chosen_L)


def _part(impression: Impression, choice: Choice) -> Impression:
    """The impression with those candidates only that the teacher is asked about."""
    if choice.chosen_L.all():
        return impression
    kept = tuple(one for one, chosen in zip(impression.candidates, choice.chosen_L, strict=True) if chosen)
    return msgspec.structs.replace(impression, candidates=kept)


def _check_names(teacher: Teacher) -> None:
    """Checks what every ranking of a teacher says. It is the teacher that is wrong then, not a list."""
    try:
        encode(Ranking(Impression("any", 0), teacher.id, teacher.version, teacher.scale, scores=(), scored=()))
    except DataError as e:
        raise TeacherError(f"teacher {teacher.id!r}, version {teacher.version!r}: {e}; choose other names") from e


def _apply_items(items: Source, teacher: Teacher, counts: Counter[str], repeats: Again) -> int:
    """Brings the teacher's catalogue up to the end of `items`; returns the position it now stands at."""

    def passed_over(message: Message, error: DecodeError) -> None:
        log_.warning("item at %d does not decode and is passed over: %s", message.offset, error)
        counts["bad_items"] += 1

    for records in new_items(items, passed_over):
        teacher.apply_items(records)
        repeats.apply_items(records)
        counts["items"] += len(records)
    return items.position()[ITEMS]


def _missing(scored: Scored) -> dict[str, int]:
    asked = sum(one.asked for one in scored)
    return {"asked": asked, "missing": asked - sum(sum(one.ranking.scored) for one in scored)}


def _count(counts: Counter[str], scored: Scored, dead: Dead, worked_s: float) -> None:
    asked, missing = _missing(scored).values()
    counts["impressions"] += len(scored) + len(dead)
    counts["rankings"] += len(scored)
    counts["asked"] += asked
    counts["spared"] += sum(len(one.ranking.scores) for one in scored) - asked
    counts["scoring_ms"] += round(1000 * worked_s)
    counts["scores"] += asked - missing
    counts["missing"] += missing
    counts["dead_letters"] += len(dead)
    counts["batches"] += 1
    if counts["batches"] == 1 and not counts["items"]:
        log_.warning("%s", EMPTY)


def _count_savings(counts: Counter[str], hits: int, cost_per_1000: float) -> None:
    """What a budget and a cache have saved: candidates, time and money."""
    counts["cache_hits"] = hits
    saved, done = counts["spared"] + hits, counts["asked"] - hits
    if done > 0:
        counts["saved_ms"] = round(counts["scoring_ms"] * saved / done)
    if cost_per_1000:
        counts["saved_cost_thousandths"] = round(saved * cost_per_1000)

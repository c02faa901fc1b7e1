"""Measures a bundle, its teacher and its rivals on held-out lists: the judge itself.

There are two protocols. In one, each contender ranks the whole live catalogue for each held-out request (whole.py). In
the other, each contender orders the candidates that were shown (shown.py). protocol.py chooses. The student answers
through `serve.recommender`, as in production. Contenders are compared list by list, and each figure has an interval.

It knows nothing of thresholds (gates.py) or of pictures (report.py).

Example:
    >>> evaluate.__name__
    'evaluate'
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.judge import artefact
from recdistill.judge.alike import agreed
from recdistill.judge.baselines import Contender
from recdistill.judge.calibrated import calibrated
from recdistill.judge.contenders import BundleContender, TeacherContender, misfits
from recdistill.judge.figures import Measured, above_chance, differences, intervals, lead
from recdistill.judge.judgement import (
    CHAMPION,
    CHANCE,
    CONTROL,
    MAIN,
    NO_TEACHER,
    STUDENT,
    TEACHER,
    Agreed,
    Calibrated,
    Control,
    Judgement,
    Lead,
    Quality,
)
from recdistill.judge.learnt import Train
from recdistill.judge.protocol import choose
from recdistill.judge.served import served_value
from recdistill.judge.shipping import answers, shipped
from recdistill.judge.shown import UNKNOWN, shown_lists
from recdistill.judge.whole import whole_catalogue
from recdistill.records import Example, Item
from recdistill.teachers import Teacher

Progress = Callable[[str, int, int], None]

CALIBRATED = 2000
"""Calibration is measured on at most so many lists."""

MANY = 0.05
"""If the bundle does not hold a larger share of the candidates than this, the report says so."""


def evaluate(
    bundle: Bundle,
    held_out: Sequence[Example],
    *,
    teacher: Teacher | None,
    rivals: Sequence[Contender],
    train_examples: Train,
    protocol: str = "auto",
    fields: Sequence[str] = (),
    teacher_scores: int = 0,
    came: Sequence[Item] = (),
    served: Sequence[Example] = (),
    scored: Sequence[Example] = (),
    device: Path | None = None,
    blocked: Collection[str] = (),
    rules: Collection[tuple[str, str]] = (),
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    draws: int = 2000,
    progress: Progress | None = None,
) -> Judgement:
    """Judges a bundle.

    Args:
        bundle: The opened bundle.
        held_out: Examples that neither the student nor a rival has learnt from.
        teacher: The teacher, which is asked again. None: the teacher's scores in the examples are used instead.
        rivals: Other contenders for the same requests: baselines, the student without distillation.
        train_examples: The training examples, what `read_interactions` made of them, or what was counted while the
            student learnt. Popularity and new items are counted in them.
        protocol: `catalogue`, `shown`, or `auto`: the one that suits the lists.
        fields: Fields that give more slices: `context.NAME`, `item.NAME`, `time`.
        teacher_scores: How many scores the teacher may be asked for. If the whole catalogue needs more, the teacher is
            asked about pools (pooled.py). 0: there is no limit.
        came: Items that came after the bundle was made. Bundles rank them as live changes, as they do while they serve.
        served: Lists that the endpoint served, with or without a label. The judgement says what they were worth. If
            some were explored, it also says what the orders of this bundle and of other bundles would be worth.
        scored: Held-out lists that the teacher has scored, with or without a label, the oldest first. On them, student
            and champion are compared by their agreement with the teacher.
        device: The device file of the bundle. None: it is not judged.
        blocked: Items that no answer may hold.
        rules: Attribute and value of each rule about what answers hold.
        sizes: More sizes to report, in bytes. `gate.size_ratio` needs the one with the name `teacher`.
        seed: Seed of the bootstrap.
        draws: Resamples of the bootstrap.
        progress: Called as `progress(what, done, total)` after each contender.

    Raises:
        BundleError: A tower or the index of the bundle cannot be loaded.
        DataError: No held-out example can be judged.
    """
    started = time.perf_counter()
    student = BundleContender(bundle, STUDENT)
    contenders: list[Contender] = [student]
    catalogue = replace(bundle, items=[*bundle.items, *came]) if came else bundle
    if teacher is not None:
        contenders.append(TeacherContender(teacher, [item.id for item in catalogue.items]))
    contenders += rivals
    for contender in contenders:
        if isinstance(contender, BundleContender):
            contender.take_live(catalogue.items)
    if len({c.name for c in contenders}) != len(contenders):
        raise DataError(f"two contenders have one name: {', '.join(c.name for c in contenders)}")
    chosen = choose(held_out, len(catalogue.items), protocol)
    measure = shown_lists if chosen.protocol == "shown" else partial(whole_catalogue, teacher_scores=teacher_scores)
    found = measure(
        catalogue, held_out, contenders, train_examples, fields=fields, seed=seed, draws=draws, progress=progress
    )
    retention, why = None, NO_TEACHER
    leads: dict[str, Lead] = {}
    if found.keeps is not None:
        rows = np.arange(len(found.users_B)) if found.keeps_B is None else found.keeps_B
        retention, why = above_chance(*found.keeps, seed=seed, draws=draws, users_B=found.users_B[rows])
        leads[TEACHER] = lead(*found.keeps, found.users_B[rows])
    if CHAMPION in found.values:
        own, champion, chance = (found.values[name][MAIN] for name in (STUDENT, CHAMPION, CHANCE))
        leads[CHAMPION] = lead(own, champion, chance, found.users_B)
    seconds = dict(found.seconds)
    judged = Judgement(
        content_hash=bundle.content_hash,
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seed=seed,
        lists=len(found.requests),
        catalogue=len(catalogue.items),
        relevant_popularity=found.relevant_popularity,
        contenders=_qualities(found, seed, draws),
        differences=differences(found.values, seed, draws, found.users_B),
        slices=found.slices,
        agreement=found.agreement,
        retention=retention,
        retention_on=found.keeps_on if found.keeps is not None else "",
        retention_why=why,
        leads=leads,
        control=_control(found, contenders, seed, draws),
        above_chance=True,
        protocol=chosen.protocol,
        protocol_why=chosen.why,
        parity=artefact.parity(student.recommender),
        latency=artefact.latency(student.recommender, found.requests),
        sizes={**artefact.sizes(student, rivals), **(sizes or {})},
        disagreements=found.disagreements,
        skipped=found.skipped,
        provenance=dict(bundle.manifest.provenance),
        seconds=seconds,
        notes=_notes(found, len(came)),
        agreed=_agreed(student, contenders, scored, seed, draws),
        shipped=None if device is None else shipped(student, device, found.requests, seed=seed, draws=draws),
        answers=answers(student, found.requests, catalogue.items, blocked=blocked, rules=rules),
        calibration=_calibration(student, held_out),
        age_s=_age_s(bundle, found),
        served=served_value(served, [one for one in contenders if isinstance(one, BundleContender)]),
        format=3,
    )
    seconds["in all"] = time.perf_counter() - started
    return judged


def _control(found: Measured, contenders: Sequence[Contender], seed: int, draws: int) -> Control | None:
    """What the student keeps of the teacher's gain over the control. None: there is no control."""
    control = next((one for one in contenders if one.name == CONTROL), None)
    if control is None:
        return None
    content_hash = control.recommender.bundle.content_hash if isinstance(control, BundleContender) else ""
    if TEACHER not in found.values:
        return Control(
            content_hash=content_hash, why="the teacher did not order the same lists, so its gain is unknown"
        )
    rows = np.arange(len(found.users_B)) if found.keeps_B is None else found.keeps_B
    own, teacher, alone = (found.values[name][MAIN][rows] for name in (STUDENT, TEACHER, CONTROL))
    users_B = found.users_B[rows]
    kept, why = above_chance(own, teacher, alone, seed=seed, draws=draws, users_B=users_B, over="the control")
    return Control(content_hash=content_hash, kept=kept, why=why)


def _agreed(
    student: BundleContender, contenders: Sequence[Contender], scored: Sequence[Example], seed: int, draws: int
) -> Agreed | None:
    champion = next((one for one in contenders if one.name == CHAMPION), None)
    if not scored or not isinstance(champion, BundleContender):
        return None
    return agreed(student, champion, scored, seed=seed, draws=draws)


def _calibration(student: BundleContender, held_out: Sequence[Example]) -> dict[str, Calibrated]:
    """Calibration of the student, and of the teacher where the stream has its scores, on the newest labelled lists."""
    lists = [one for one in held_out if any(label > 0 for label in one.labels)][-CALIBRATED:]
    unfit = misfits(student.recommender.bundle, lists)
    lists = [one for row, one in enumerate(lists) if row not in unfit]
    labels = [np.array(one.labels, np.float64) for one in lists]
    scores = {
        STUDENT: student.scores([one.ranking.impression for one in lists]),
        TEACHER: [np.where(one.ranking.scored, np.array(one.ranking.scores, np.float64), np.nan) for one in lists],
    }
    found = {name: calibrated(of, labels) for name, of in scores.items()}
    return {name: one for name, one in found.items() if one is not None}


def _age_s(bundle: Bundle, found: Measured) -> float | None:
    """Seconds from the newest event that the student learnt from to the newest judged list. None: not known."""
    learnt_us = bundle.manifest.provenance.get("event_us")
    if not isinstance(learnt_us, int) or not learnt_us:
        return None
    return max(0.0, (max(request.time_us for request in found.requests) - learnt_us) / 1e6)


def _notes(found: Measured, came: int) -> list[str]:
    """What a reader must know: items came after the bundle was made, or the bundle lacks many shown candidates."""
    notes = []
    if came:
        notes.append(f"{came:,} items came after the bundle; it ranks them by their attributes, as while it serves")
    if TEACHER in found.values and found.keeps_B is not None:
        failed = len(found.requests) - len(found.keeps_B)
        notes.append(
            f"the teacher failed on {failed:,} lists: each counts 0 in its figures, and none in the share that is kept"
        )
    shown, strange = sum(len(request.candidates) for request in found.requests), found.skipped.get(UNKNOWN, 0)
    if strange <= MANY * shown:
        return notes
    sentence = (
        f"{strange / shown:.0%} of the candidates are not in the bundle, and the student puts them last: they came "
        "after it, or have other ids in items; distil again, or compare the ids (`recdistill inspect items`)"
    )
    return [*notes, sentence]


def _qualities(found: Measured, seed: int, draws: int) -> list[Quality]:
    measured = intervals(found.values, seed, draws, found.users_B)
    out = []
    for name, of in measured.items():
        shows = found.behaviour.get(name)
        spent, worked = (
            None if name not in times else times[name] / len(found.requests) * 1000
            for times in (found.seconds, found.processor)
        )
        out.append(
            Quality(
                name=name,
                metrics=of,
                coverage=None if shows is None else shows.coverage,
                popularity=None if shows is None else shows.popularity,
                novelty=None if shows is None else shows.novelty,
                diversity=None if shows is None else shows.diversity,
                seconds_per_1000=spent,
                processor_s_per_1000=worked,
            )
        )
    return out

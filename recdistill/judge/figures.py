"""Turns values of lists into figures: means with intervals, paired differences, slices, and what the student keeps.

Values are `contender -> metric -> one value for each list`. All intervals of one judgement use the same resamples.

It knows nothing of how a value was measured.

Example:
    >>> chance, teacher, student = np.full(50, 0.1), np.full(50, 0.5), np.full(50, 0.4)
    >>> kept, why = above_chance(student, teacher, chance, seed=0, draws=10)
    >>> round(kept.mean, 2), why
    (0.75, '')
    >>> above_chance(student, chance, chance, seed=0, draws=10)  # doctest: +ELLIPSIS
    (None, 'the teacher is not above chance: ...')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill import metrics
from recdistill.judge.behaviour import Behaviour
from recdistill.judge.judgement import (
    CHAMPION,
    CHANCE,
    MAIN,
    STUDENT,
    TEACHER,
    Agreement,
    Difference,
    Disagreement,
    Lead,
    SliceQuality,
)
from recdistill.judge.slices import Slice
from recdistill.metrics import Interval
from recdistill.records import Impression

Floats = NDArray[np.float64]
Values = Mapping[str, Mapping[str, Floats]]
POPULARITY = "popularity"


@dataclass(frozen=True)
class Measured:
    """What a protocol found, before it becomes a judgement.

    Attributes:
        requests: The requests of the lists that were judged.
        values: One value for each list.
        behaviour: What each contender puts first. Only for contenders that choose from the catalogue.
        relevant_popularity: Mean popularity percentile of the items that users liked.
        slices: Figures of the slices.
        agreement: How alike the orders of teacher and student are.
        keeps: NDCG@10 of student, teacher and chance on the lists where retention is counted. None: no teacher.
        keeps_on: Which lists these are.
        disagreements: The lists on which teacher and student differ most.
        skipped: Reason -> how many lists or candidates were left out.
        users_B: A number for the user of each list. A list without a user has a number that no other list has.
        keeps_B: Numbers of the lists where retention is counted. None: all.
        seconds: How many seconds each contender took.
        processor: How many seconds of processor time each contender took, over all threads of this process.
    """

    requests: list[Impression]
    values: Values
    behaviour: Mapping[str, Behaviour]
    relevant_popularity: float
    slices: list[SliceQuality]
    agreement: Agreement
    keeps: tuple[Floats, Floats, Floats] | None
    keeps_on: str
    disagreements: list[Disagreement]
    skipped: dict[str, int]
    seconds: dict[str, float]
    processor: dict[str, float]
    users_B: NDArray[np.int64]
    keeps_B: NDArray[np.int64] | None = None


def numbered_users(requests: Sequence[Impression]) -> NDArray[np.int64]:
    """A number for the user of each list. A new user gets the next number, and so does each list without a user."""
    number: dict[tuple[bool, str], int] = {}
    keys = [(r.user is not None, r.id if r.user is None else r.user) for r in requests]
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int64)


def intervals(
    values: Values, seed: int, draws: int, users_B: NDArray[np.int64] | None = None
) -> dict[str, dict[str, Interval]]:
    """The interval of every metric of every contender."""
    keys = [(name, metric) for name, of in values.items() for metric in of]
    table = np.stack([values[name][metric] for name, metric in keys], axis=1)
    out: dict[str, dict[str, Interval]] = {name: {} for name in values}
    for (name, metric), interval in zip(
        keys, metrics.intervals(table, seed=seed, draws=draws, users=users_B), strict=True
    ):
        out[name][metric] = interval
    return out


def differences(values: Values, seed: int, draws: int, users_B: NDArray[np.int64] | None = None) -> list[Difference]:
    """The student minus each other contender, the teacher minus chance, and the teacher minus popularity.

    The last two say whether the teacher is worth learning from.
    """
    others = [name for name in values if name != STUDENT]
    keys = [(STUDENT, other, metric) for other in others for metric in values[STUDENT]]
    keys += [(TEACHER, other, MAIN) for other in (CHANCE, POPULARITY) if TEACHER in values and other in values]
    if not keys:
        return []
    table = np.stack([values[one][metric] - values[other][metric] for one, other, metric in keys], axis=1)
    found = zip(keys, metrics.intervals(table, seed=seed, draws=draws, users=users_B), strict=True)
    return [Difference(a=one, b=other, metric=metric, interval=i) for (one, other, metric), i in found]


def above_chance(
    student_B: Floats,
    teacher_B: Floats,
    chance_B: Floats,
    *,
    seed: int,
    draws: int,
    users_B: NDArray[np.int64] | None = None,
    over: str = "chance",
) -> tuple[Interval | None, str]:
    """What the student keeps of the teacher: (student − chance) / (teacher − chance), with its interval.

    Each resample of the lists gives a mean of both leads over chance, and so one ratio. The interval holds the middle
    95% of these ratios. Where the teacher may have no lead over chance, a share of it has no meaning. Then there is a
    sentence instead of a share.

    Args:
        student_B: Values of the student.
        teacher_B: Values of the teacher on the same lists.
        chance_B: What a random order gets on the same lists.
        seed: Seed of the resamples.
        draws: How many resamples.
        users_B: A number for the user of each list. None: each list has its own.
        over: The name of what `chance_B` holds, for the sentence.

    Returns:
        The share and no sentence, or no share and the sentence.
    """
    leads = np.stack([student_B - chance_B, teacher_B - chance_B], axis=1)
    _, lead = metrics.intervals(leads, seed=seed, draws=draws, users=users_B)
    if lead.low <= 0:
        return None, (
            f"the teacher is not above {over}: its lead is {lead.mean:+.4f} NDCG@10 (95% interval {lead.low:+.4f} to "
            f"{lead.high:+.4f}), so there is nothing to keep a share of"
        )
    means = metrics.bootstrap_means(leads, seed=seed, draws=draws, users=users_B)
    means = means[means[:, 1] > 0]
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    mean = leads.mean(0)
    return Interval(float(mean[0] / mean[1]), float(low), float(high), len(leads)), ""


def lead(student_B: Floats, other_B: Floats, chance_B: Floats, users_B: NDArray[np.int64]) -> Lead:
    """How far the student and another contender are above chance on the same lists, and how sure that is."""
    leads = np.stack([student_B - chance_B, other_B - chance_B], axis=1)
    # The covariance comes from the errors of the sum and of both: Var(a + b) = Var(a) + Var(b) + 2 Cov(a, b).
    errors, users = metrics.standard_errors(np.c_[leads, leads.sum(1)], users_B)
    own, other, both = (float(error) ** 2 for error in errors) if users > 1 else (0.0, 0.0, 0.0)
    return Lead(
        student=float(leads[:, 0].mean()),
        other=float(leads[:, 1].mean()),
        var_student=own,
        var_other=other,
        covariance=(both - own - other) / 2,
        users=users,
        lists=len(leads),
    )


def slice_qualities(
    parts: Sequence[Slice],
    labels_BP: Floats,
    measure: Callable[[NDArray[np.int64], Floats], Values],
    *,
    seed: int,
    draws: int,
    users_B: NDArray[np.int64],
) -> list[SliceQuality]:
    """The figures of each slice.

    Args:
        parts: The slices.
        labels_BP: Labels of the relevant items of each list.
        measure: Gives the values of all contenders, for some lists (by number) and for the labels that are passed.
        seed: Seed of the resamples.
        draws: How many resamples.
        users_B: A number for the user of each list.
    """
    out = []
    for part in parts:
        rows = np.flatnonzero(part.lists_B)
        found: dict[str, dict[str, Interval]] = {}
        apart: dict[str, Interval] = {}
        if len(rows):
            # A relevant item outside the slice gets label 0, so it does not count.
            labels = labels_BP if part.relevant_BP is None else labels_BP * part.relevant_BP
            values = measure(rows, labels[rows])
            found = intervals(values, seed, draws, users_B[rows])
            against = [each for each in differences(values, seed, draws, users_B[rows]) if each.metric == MAIN]
            apart = {each.b: each.interval for each in against if each.a == STUDENT and each.b in (CHAMPION, TEACHER)}
        out.append(SliceQuality(name=part.name, meaning=part.meaning, n=len(rows), metrics=found, apart=apart))
    return out


def percentiles(counts_N: Floats) -> Floats:
    """For each item, the share of the items that fewer users liked. Items with the same number of users count half."""
    ordered = np.sort(counts_N)
    below = np.searchsorted(ordered, counts_N, "left") + np.searchsorted(ordered, counts_N, "right")
    return below / (2.0 * len(counts_N))

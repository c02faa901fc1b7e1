"""Faults that were planted in a candidate, each refused by the gate with the policy's defaults or one setting more.

The lists are drawn with deviations that were measured between real students: .076 a list between neighbours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from support.judgements import around, judged_lists

from recdistill.judge.allowance import Try
from recdistill.judge.gates import gate
from recdistill.judge.judgement import Agreed, Judgement, Lead
from recdistill.judge.policy import Asked

LISTS, USERS = 20_000, 1000
BASE, NEIGHBOUR, APART, TEACHER = 0.185, 0.076, 0.177, 0.128
BUSY = [
    Try(content_hash=f"{n}", at=datetime(2026, 6, 1, tzinfo=UTC) - n * timedelta(hours=1.2), allotted=3e-6)
    for n in range(7300)
]
"""A year of 20 tries a day: bounds are as strict as they get."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)
RARE = "students"


def judged(
    loss: float = 0.0, *, rare_loss: float = 0.0, behind: float = 0.0, apart: float = NEIGHBOUR, seed: int = 0
) -> Judgement:
    """A candidate beside its champion: what it loses everywhere, and in a slice of 2%; what the champion has lost."""
    random = np.random.default_rng(seed)
    users = np.repeat(np.arange(USERS), LISTS // USERS)
    rare = np.zeros(LISTS, bool)
    rare[random.choice(LISTS, LISTS // 50, replace=False)] = True

    def drawn(mean: float, deviation: float) -> NDArray[np.float64]:
        """Of exactly this mean, so that no seed decides a test."""
        values = random.normal(0, deviation, LISTS)
        values[rare] -= values[rare].mean()
        values[~rare] -= values[~rare].mean()
        return values + mean

    champion = drawn(BASE - behind, 0.25)
    student = champion + drawn(-loss, apart) - rare_loss * BASE * rare
    teacher = student + drawn(behind + loss, TEACHER)
    return judged_lists(student, champion, teacher, users, {RARE: rare, "others": ~rare})


def verdict(judgement: Judgement, asked: Asked | None = None) -> tuple[str, str]:
    evidence = gate(judgement, asked or Asked(), BUSY, now=NOW)
    return evidence.verdict, " ".join(evidence.reasons)


def test_an_equal_neighbour_passes() -> None:
    assert verdict(judged())[0] == "passed"


@pytest.mark.parametrize("apart", [NEIGHBOUR, APART])
def test_worse_than_the_champion_by_two_margins(apart: float) -> None:
    found, why = verdict(judged(2 * 0.05 * BASE, apart=apart))
    assert found == "refused"
    assert "champion: the student's lead over it is -0.0185" in why


def test_worse_by_just_a_margin_is_no_promotion() -> None:
    found, why = verdict(judged(0.05 * BASE))
    assert found == "refused"
    assert "champion" in why


def test_ten_percent_worse_only_for_a_slice_of_two_percent() -> None:
    found, why = verdict(judged(rare_loss=0.1))
    assert found == "refused"
    assert "slices: the student is worse than the champion there: students -0.01" in why
    assert "in 400 lists" in why


def test_where_a_slice_is_too_small_to_see_it_the_sentence_says_so_and_a_named_slice_does_not_pass() -> None:
    blind = judged(rare_loss=0.1, apart=APART)
    found, _ = verdict(blind)
    assert found == "passed"
    [said] = [reason for reason in gate(blind, Asked(), BUSY, now=NOW).reasons if reason.startswith("slices")]
    assert said.endswith("too few lists to see a loss of 10%: students (400 lists)")
    found, why = verdict(blind, Asked(slices=[RARE]))
    assert found == "not enough evidence"
    assert "slice students: the student's lead over the champion is -0.01" in why


def test_a_missing_slice() -> None:
    found, why = verdict(judged(), Asked(slices=["new users"]))
    assert found == "not enough evidence"
    assert "slice new users: the policy asks for it, and it was not judged; there are: students, others" in why


@pytest.mark.slow
def test_ten_candidates_each_a_little_worse_than_the_last() -> None:
    """Each loses a fifth of what the champion's margin allows, so the champion alone would let all of them through."""
    step = 0.05 * BASE / 5
    assert verdict(judged(step))[0] == "refused"  # by default what is shown to be worse is refused at once
    promoted, champion_only = 0.0, 0.0
    for n in range(10):
        candidate = judged(step, behind=promoted, seed=n)
        if verdict(candidate, Asked(not_below_champion=False))[0] == "passed":
            promoted += step
        alone = judged(step, behind=champion_only, seed=n)
        if verdict(alone, Asked(not_below_champion=False, retention=0))[0] == "passed":
            champion_only += step
    assert champion_only == pytest.approx(10 * step)  # twice the margin: what the fresh teacher is there for
    assert 0 < promoted < 0.05 * BASE


def alike(student: float, champion: float, deviation: float) -> Agreed:
    variance = deviation**2 / LISTS
    own = Lead(
        student=student,
        other=champion,
        var_student=variance,
        var_other=variance,
        covariance=variance / 2,
        users=USERS,
        lists=LISTS,
    )
    return Agreed(lists=LISTS, student=around(student, 0.01), champion=around(champion, 0.01), lead=own)


def few_labels(judgement: Judgement) -> Judgement:
    """The same, as a hundredth of the labels would have shown it."""
    own = judgement.leads["champion"]
    wide = msgspec.structs.replace(
        own,
        var_student=100 * own.var_student,
        var_other=100 * own.var_other,
        covariance=100 * own.covariance,
        lists=own.lists // 100,
    )
    apart = judgement.difference("student", "champion")
    assert apart is not None
    width = 10 * (apart.high - apart.low) / 2
    wider = [
        msgspec.structs.replace(one, interval=around(apart.mean, width)) if one.b == "champion" else one
        for one in judgement.differences
    ]
    return msgspec.structs.replace(judgement, leads={**judgement.leads, "champion": wide}, differences=wider)


def test_where_labels_are_few_agreement_with_the_teacher_decides_and_labels_guard() -> None:
    few = few_labels(judged())
    found, why = verdict(few)
    assert found == "not enough evidence"
    assert "champion" in why
    agrees = msgspec.structs.replace(few, agreed=alike(0.6, 0.6, 0.1))
    assert verdict(agrees)[0] == "passed"
    assert verdict(msgspec.structs.replace(few, agreed=alike(0.5, 0.6, 0.1)))[0] == "refused"
    worse = few_labels(judged(0.06))
    assert verdict(msgspec.structs.replace(worse, agreed=alike(0.6, 0.6, 0.1)))[0] == "refused"

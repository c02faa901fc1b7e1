"""What a student keeps above chance, against plain loops over resamples."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.judge.figures import above_chance


def made(share, *, lead, lists=400, seed=0):
    """Values of student, teacher and chance, where the student has a share of the teacher's lead."""
    random = np.random.default_rng(seed)
    chance = random.uniform(0.1, 0.7, lists)
    teacher = chance + random.normal(lead, 0.1, lists)
    return chance + share * (teacher - chance) + random.normal(0, 0.02, lists), teacher, chance


@pytest.mark.parametrize("share", [-0.3, 0.0, 0.5, 1.0, 1.4])
def test_the_share_and_its_interval(share):
    student, teacher, chance = made(share, lead=0.1)
    found, why = above_chance(student, teacher, chance, seed=3, draws=500)
    assert why == ""
    assert found.mean == pytest.approx((student.mean() - chance.mean()) / (teacher.mean() - chance.mean()))
    random = np.random.default_rng(11)  # other resamples: the interval is nearly the same
    ratios = []
    for _ in range(2000):
        rows = random.integers(0, len(student), len(student))
        ratios.append((student - chance)[rows].mean() / (teacher - chance)[rows].mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.02)
    assert found.n == 400


def test_a_random_student_keeps_nothing_where_chance_is_high():
    """On short lists a random order gets most of the teacher's NDCG: that is no quality of the student."""
    random = np.random.default_rng(1)
    chance = np.full(3000, 0.55)
    teacher, student = chance + 0.1 + random.normal(0, 0.2, 3000), chance + random.normal(0, 0.2, 3000)
    assert student.mean() / teacher.mean() > 0.8, "what was counted before"
    found, _ = above_chance(student, teacher, chance, seed=0, draws=500)
    assert found.low < 0 < found.high
    assert abs(found.mean) < 0.1


@pytest.mark.parametrize("lead", [0.0, -0.1, 0.004])
def test_a_teacher_that_may_be_chance_gives_a_sentence(lead):
    found, why = above_chance(*made(0.9, lead=lead), seed=0, draws=500)
    assert found is None
    assert why.startswith("the teacher is not above chance: its lead is ")
    assert "so there is nothing to keep a share of" in why

"""The trial of a teacher: what it must show, and when that is decided."""

from __future__ import annotations

import numpy as np
import pytest
from support.teacher_streams import Stream, shuffled_from

from recdistill.watch.figures import HALF_LIFE, Figure
from recdistill.watch.trial import LEAST_LIFT, Window, bar


def figure(mean: float, lists: int = 500, sd: float = 0.1) -> Figure:
    made = Figure()
    made.add(mean + sd * np.where(np.arange(lists) % 2, 1.0, -1.0), HALF_LIFE)
    return made


def test_the_bar_is_a_share_of_its_own_past_or_of_the_best_of_the_others() -> None:
    own, others = figure(0.8), [figure(0.3), figure(0.6)]
    assert bar(own, others, 0.0, least=0.5) == pytest.approx(0.4)
    assert bar(Figure(), others, 0.0, least=0.5) == pytest.approx(0.3)
    assert bar(figure(0.8), [], 0.5, least=0.25) == pytest.approx(0.3 / 4)
    assert bar(Figure(), [figure(0.6, lists=20)], 0.0, least=0.5) == LEAST_LIFT  # too few to compare with
    assert bar(own, others, 0.0, least=0.5, kept=0.5) == pytest.approx(0.2)
    assert bar(own, others, 0.0, least=0.5, kept=1e-9) == LEAST_LIFT


def test_a_window_counts_all_its_lists_the_same_and_remembers_where_it_began() -> None:
    stream, window, order, pairs = Stream(0), Window(), [], []
    for first in (70, 120, 170):
        seen = stream.batch(50).of("t@1", first)
        assert seen is not None
        window.add(seen)
        order.append(seen.order)
        pairs.append(seen.pairs)
    assert (window.start, window.lists) == (70, 150)
    assert window.order.mean == pytest.approx(np.nanmean(np.concatenate(order)))
    assert window.labels.mean == pytest.approx(np.nanmean(np.concatenate(pairs)))


def test_labels_decide_and_the_student_where_they_are_silent() -> None:
    good, none, bad = figure(0.9), Figure(), figure(0.5)
    assert Window(order=none, labels=good).verdict(0.3, 0.2) == "passed"
    assert Window(order=figure(0.0), labels=good).verdict(0.3, 0.2) == "passed"
    assert Window(order=good, labels=none).verdict(0.3, 0.2) == "passed"
    assert Window(order=good, labels=bad).verdict(0.3, 0.2) == "failed"
    assert Window(order=figure(0.0), labels=none).verdict(0.3, 0.2) == "failed"
    assert Window(order=figure(0.3), labels=none).verdict(0.3, 0.2) == "open"
    assert Window().verdict(0.3, 0.2) == "open"


@pytest.mark.parametrize(("start", "expected"), [(10**9, "passed"), (0, "failed")])
def test_a_sound_teacher_passes_and_a_random_one_fails(start: int, expected: str) -> None:
    seen = Stream(1, skill=100.0, teacher=shuffled_from(start), at=2000).batch(300).of("t@1", 0)
    assert seen is not None
    window = Window()
    window.add(seen)
    assert window.verdict(0.25, 0.15) == expected

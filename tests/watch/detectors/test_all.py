"""The detectors together: who is asked when, who comes first, and what a trial leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.teacher_streams import Change, Stream, rescaled_from, shuffled_from

from recdistill.watch.detectors import Detectors, Labels
from recdistill.watch.figures import HALF_LIFE, Figure
from recdistill.watch.observation import Seen


def stream_of(
    lists: int, teacher: Change, student: Callable[[Seen], np.ndarray] | None = None, **more: float
) -> list[Seen]:
    stream = Stream(0, teacher=teacher, **more)  # type: ignore[arg-type]
    found = []
    for first in range(0, lists, 50):
        seen = stream.batch(50).of("t@1", first)
        assert seen is not None
        found.append(replace(seen, student_BL=student(seen)) if student else seen)
    return found


def accusers(stream: list[Seen]) -> list[str]:
    detectors, found = Detectors(), []
    for seen in stream:
        if accusation := detectors.accusation(seen):
            found.append(accusation[0])
            detectors.drop()
    return found


def test_where_both_see_it_the_order_accuses_and_where_the_student_is_blind_labels_do() -> None:
    random = np.random.default_rng(1)
    broken = shuffled_from(2000)
    assert accusers(stream_of(2400, broken, labels=1.0))[:1] == ["order"]
    blind = stream_of(2400, broken, lambda seen: random.normal(size=seen.student_BL.shape), labels=1.0, noise=0.3)
    assert accusers(blind)[:1] == ["labels"]


def test_of_two_that_accuse_in_the_same_batch_the_first_is_named() -> None:
    """References that either would defend: a student that is a weak witness, and labels that are a good one."""
    [seen] = [Stream(3, labels=1.0, teacher=shuffled_from(0)).batch(1500).of("t@1", 0)]
    assert seen is not None
    detectors = Detectors()
    detectors.order.reference, detectors.labels.reference = figure(0.12, 0.3), figure(0.85, 0.2)
    alone = Labels(reference=figure(0.85, 0.2)).observe(seen)
    accusation = detectors.accusation(seen)
    assert alone is not None
    assert accusation is not None
    assert (accusation[0], not detectors.order.sure) == ("order", True)
    assert "agreed with the student at 0.1" in accusation[1].why


def test_labels_that_change_accuse_nobody_where_the_student_knows_the_teacher() -> None:
    """The same labels, shuffled from list 2,000 on, once with a student that follows the teacher and once with none."""
    random = np.random.default_rng(2)

    def shuffled(stream: list[Seen]) -> list[Seen]:
        early, late = stream[:40], stream[40:]
        return early + [replace(seen, labels_BL=random.permuted(seen.labels_BL, axis=1)) for seen in late]

    sound = shuffled_from(10**9)
    assert accusers(shuffled(stream_of(3500, sound, labels=1.0, skill=300.0))) == []
    blind = stream_of(3500, sound, lambda seen: random.normal(size=seen.student_BL.shape), labels=1.0)
    assert accusers(shuffled(blind))[:1] == ["labels"]


def test_a_notice_comes_from_those_that_accuse_nobody() -> None:
    detectors, told = Detectors(), []
    for seen in stream_of(3000, rescaled_from(2000)):
        told += [(name, each.notice, finding.why) for name, each, finding in detectors.notices(seen)]
        assert detectors.accusation(seen) is None
    [(name, count, why)] = told
    assert (name, count) == ("scale", "normalised")
    assert why.startswith("its scores were at ")


def figure(mean: float, sd: float = 0.1) -> Figure:
    made = Figure()
    made.add(mean + sd * np.where(np.arange(500) % 2, 1.0, -1.0), HALF_LIFE)
    return made


@pytest.mark.parametrize(("before", "trial", "taken"), [(0.8, 0.7, False), (0.8, 0.5, True), (None, 0.1, True)])
def test_a_trial_gives_the_reference_where_the_old_one_is_no_use(
    before: float | None, trial: float, taken: bool
) -> None:
    detectors, window = Detectors(), figure(trial)
    if before is not None:
        detectors.order.reference = figure(before)
    old = detectors.order.reference
    detectors.renew(window, figure(0.9))
    assert detectors.order.reference is (window if taken else old)
    assert detectors.labels.reference.mean == pytest.approx(0.9)
    assert detectors.chance.proven

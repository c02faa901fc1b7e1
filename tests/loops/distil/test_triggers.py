"""When a bundle is due."""

from __future__ import annotations

from recdistill.loops.distil.triggers import Triggers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_makes_one_due_where_nothing_is_asked_for() -> None:
    due = Triggers(steps=0, examples=0, seconds=0.0, drift=0.0)
    due.begin(step=0, examples=0)
    due.learnt(step=5000, examples=10**6, agreement=0.9, news=True)
    assert due.reason() is None


def test_a_multiple_that_is_passed_counts_once_and_waits_until_it_is_made() -> None:
    due = Triggers(steps=10, examples=0, seconds=0.0, drift=0.0)
    due.begin(step=9, examples=0)
    due.learnt(step=10, examples=80, agreement=None, news=False)
    due.learnt(step=11, examples=88, agreement=None, news=False)
    assert due.reason() == "steps"  # an export that takes long has delayed it
    due.exported()
    due.learnt(step=12, examples=96, agreement=None, news=False)
    assert due.reason() is None


def test_time_counts_only_when_something_was_learnt() -> None:
    clock = Clock()
    due = Triggers(steps=0, examples=0, seconds=60.0, drift=0.0, age_s=50.0, clock=clock)
    due.begin(step=0, examples=0)
    clock.now = 100.0
    assert due.reason() is None
    due.learnt(step=1, examples=8, agreement=None, news=False)
    assert due.reason() == "time"
    due.exported()
    clock.now = 159.0
    due.learnt(step=2, examples=16, agreement=None, news=False)
    assert due.reason() is None
    clock.now = 160.0
    assert due.reason() == "time"


def test_drift_is_a_move_of_the_agreement_since_the_last_bundle_or_a_finding() -> None:
    due = Triggers(steps=0, examples=0, seconds=0.0, drift=0.1)
    due.begin(step=0, examples=0)
    for step, (agreement, wanted) in enumerate([(0.50, None), (0.55, None), (0.61, "drift")], 1):
        due.learnt(step=step, examples=8 * step, agreement=agreement, news=False)
        assert due.reason() == wanted
    due.exported()
    due.learnt(step=4, examples=32, agreement=0.55, news=False)  # from .61 it has moved by .06
    assert due.reason() is None
    due.learnt(step=5, examples=40, agreement=0.55, news=True)
    assert due.reason() == "drift"

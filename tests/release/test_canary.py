"""What follows from what the users of a canary did."""

from __future__ import annotations

import pytest
from support.trials import trial

from recdistill.release import CanaryTrial


def test_as_good_a_canary_is_promoted() -> None:
    verdict = trial().verdict()
    assert verdict.say == "promote"
    assert any(reason.startswith("clicks: 0.") and "well enough for sure" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"canary": 0.15}, "clicks"),
        ({"short": 0.3}, "short lists"),
        ({"failing": 0.3}, "short lists"),
        ({"coming": 0.5}, "figures are missing"),
        ({"coming": 0.0}, "figures are missing"),
    ],
)
def test_a_fault_is_withdrawn(fault: dict[str, float], said: str) -> None:
    verdict = trial(**fault).verdict()  # type: ignore[arg-type]
    assert verdict.say == "withdraw"
    assert any(said in reason and ("worse for sure" in reason or "missing" in reason) for reason in verdict.reasons)


def test_what_is_never_sure_is_withdrawn_in_the_end() -> None:
    """Exactly at the margin, nothing becomes sure."""
    verdict = trial(canary=0.27).verdict()
    assert verdict.say == "withdraw"
    assert any("nothing is sure after" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("fault", "marks"),
    [
        ({}, ["better", "better", "note"]),
        ({"canary": 0.15}, ["worse", "open", "note"]),
        ({"coming": 0.0}, ["open", "open", "note", "failed"]),
        ({"canary": 0.27}, ["open", "better", "note", "failed"]),
    ],
)
def test_each_reason_says_what_it_means(fault: dict[str, float], marks: list[str]) -> None:
    one = trial(**fault)  # type: ignore[arg-type]
    told = one.told()
    assert [reason.says for reason in told.reasons] == marks
    assert [reason.sentence for reason in told.reasons] == one.verdict().reasons


def test_a_user_counts_once() -> None:
    trial = CanaryTrial(share=0.5, alpha=0.05, margin=0.05, most_users=100)
    for _ in range(500):
        trial.add("one", on_canary=True, answered=True, clicked=False, short=True)
    assert trial.users == {"champion": 0, "canary": 1}
    assert trial.verdict().say == "wait"

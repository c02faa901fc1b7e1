"""What follows from what the users of a canary did."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.release import CanaryTrial


def users(
    *,
    canary: float = 0.3,
    failing: float = 0.0,
    coming: float = 1.0,
    short: float = 0.0,
    share: float = 0.2,
    count: int = 30_000,
) -> CanaryTrial:
    """A trial with users of both sides.

    Args:
        canary: Share of lists with a click on the canary's side; the champion's is .3.
        failing: Share of the canary's users to whom the champion had to answer.
        coming: Share of the canary's users of whom anything is known.
        short: Share of short lists of the canary.
        share: Of the users.
        count: Users.
    """
    random = np.random.default_rng(7)
    trial = CanaryTrial(share=share, alpha=0.05, margin=0.05, most_users=4_000)
    for number, (side, came, failed, click, few) in enumerate(random.random((count, 5)).tolist()):
        on_canary = side < share
        if on_canary and came >= coming:
            continue
        failed_now = on_canary and failed < failing
        trial.add(
            f"user-{number}",
            on_canary=on_canary,
            answered=on_canary and not failed_now,
            clicked=click < (canary if on_canary else 0.3),
            short=on_canary and few < short,
        )
        if trial.verdict().say != "wait":
            break
    return trial


def test_as_good_a_canary_is_promoted() -> None:
    verdict = users().verdict()
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
    verdict = users(**fault).verdict()  # type: ignore[arg-type]
    assert verdict.say == "withdraw"
    assert any(said in reason and ("worse for sure" in reason or "missing" in reason) for reason in verdict.reasons)


def test_what_is_never_sure_is_withdrawn_in_the_end() -> None:
    """Exactly at the margin, nothing becomes sure."""
    verdict = users(canary=0.27).verdict()
    assert verdict.say == "withdraw"
    assert any("nothing is sure after" in reason for reason in verdict.reasons)


def test_a_user_counts_once() -> None:
    trial = CanaryTrial(share=0.5, alpha=0.05, margin=0.05, most_users=100)
    for _ in range(500):
        trial.add("one", on_canary=True, answered=True, clicked=False, short=True)
    assert trial.users == {"champion": 0, "canary": 1}
    assert trial.verdict().say == "wait"

"""The trial of a canary on invented users, for tests of its test and of its page.

It knows nothing of logs or registries.

Example:
    >>> trial(count=10).users["champion"] > 0
    True
"""

from __future__ import annotations

import numpy as np

from recdistill.release import CanaryTrial

BEGAN_US = 1_800_000_000_000_000


def trial(
    *,
    canary: float = 0.3,
    failing: float = 0.0,
    coming: float = 1.0,
    short: float = 0.0,
    share: float = 0.2,
    count: int = 30_000,
) -> CanaryTrial:
    """A trial with users of both sides, which ends when its test is sure.

    Args:
        canary: Share of lists with a click on the canary's side; the champion's is .3.
        failing: Share of the canary's users to whom the champion had to answer.
        coming: Share of the canary's users of whom anything is known.
        short: Share of short lists of the canary.
        share: Of the users.
        count: Users.
    """
    random = np.random.default_rng(7)
    one = CanaryTrial(share=share, alpha=0.05, margin=0.05, most_users=4_000)
    for number, (side, came, failed, click, few) in enumerate(random.random((count, 5)).tolist()):
        on_canary = side < share
        if on_canary and came >= coming:
            continue
        failed_now = on_canary and failed < failing
        one.add(
            f"user-{number}",
            on_canary=on_canary,
            answered=on_canary and not failed_now,
            clicked=click < (canary if on_canary else 0.3),
            short=on_canary and few < short,
            at_us=BEGAN_US + number * 1_000_000,
        )
        if one.verdict().say != "wait":
            break
    return one

"""Compares the student's order of candidates, and the champion's, with the order of the teacher's scores.

It uses all held-out lists and needs no label. Its figures vary less than figures from labels. So it can tell two
students apart where labels are few.

It knows nothing of verdicts, or of how a list was labelled.

Example:
    >>> agreed.__name__
    'agreed'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from recdistill import metrics
from recdistill.judge.contenders import BundleContender, misfits
from recdistill.judge.figures import lead, numbered_users
from recdistill.judge.judgement import Agreed
from recdistill.records import Example

MOST: Final = 20_000
"""At most so many lists are compared, the newest ones."""

LEAST: Final = 2
"""A list counts only if student, champion and teacher have all scored at least so many of its candidates."""


def agreed(
    student: BundleContender, champion: BundleContender, lists: Sequence[Example], *, seed: int, draws: int
) -> Agreed | None:
    """Kendall's tau of student and champion with the teacher's scores. None: no list can be compared.

    Args:
        student: The student.
        champion: The champion.
        lists: Held-out lists, with or without a label, the oldest first.
        seed: Seed of the resamples.
        draws: How many resamples.
    """
    scored = [one for one in lists if sum(one.ranking.scored) >= LEAST][-MOST:]
    unfit = misfits(student.recommender.bundle, scored) | misfits(champion.recommender.bundle, scored)
    scored = [one for row, one in enumerate(scored) if row not in unfit]
    requests = [one.ranking.impression for one in scored]
    found, rows = [], []
    for row, (one, mine, theirs) in enumerate(
        zip(scored, student.scores(requests), champion.scores(requests), strict=True)
    ):
        taught = np.where(one.ranking.scored, np.array(one.ranking.scores, np.float64), np.nan)
        known = np.isfinite(taught) & np.isfinite(mine) & np.isfinite(theirs)
        if known.sum() >= LEAST:
            pair = np.stack([mine[known], theirs[known]])
            found.append(metrics.kendall_tau(pair, np.stack([taught[known]] * 2)))
            rows.append(row)
    if not found:
        return None
    tau_B2 = np.stack(found)
    users_B = numbered_users([requests[row] for row in rows])
    own, other = metrics.intervals(tau_B2, seed=seed, draws=draws, users=users_B)
    both = lead(tau_B2[:, 0], tau_B2[:, 1], np.zeros(len(rows)), users_B)
    return Agreed(lists=len(rows), student=own, champion=other, lead=both)

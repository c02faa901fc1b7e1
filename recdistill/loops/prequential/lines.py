"""NDCG@10 and agreement of several lists at once: scores of any length -> one figure for each list.

A candidate that a line does not know has NaN; it comes last. Equal scores are in no order: NDCG is its mean over all
orders of the ties (`recdistill.judge.tied`). Agreement is Kendall's τ-b with the teacher's scores, over the candidates
that both know.

It knows nothing of records, the trainer or logs.

Example:
    >>> ndcg([np.array([2.0, 1.0, np.nan], np.float32)], [np.array([0.0, 1.0, 0.0])]).round(4).tolist()
    [0.6309]
    >>> agreement([np.array([2.0, 1.0, 5.0])], [np.array([9.0, 3.0, np.nan])]).tolist()
    [1.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recdistill import metrics

CUT: Final = 10

Floats = npt.NDArray[Any]


def ndcg(scores: Sequence[Floats], labels: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """NDCG@10 of each list, f64 `[B]`.

    Args:
        scores: `[L]` for each list.
        labels: Its labels, `[L]`.
    """
    from recdistill.judge import tied  # this room brings much along, so only who makes a figure opens it

    scores_BL, there_BL = _padded(scores)
    labels_BL, _ = _padded(labels)
    held_BL = np.where(np.isnan(scores_BL), -np.inf, scores_BL)
    return tied.ndcg(held_BL, np.where(there_BL, labels_BL, 0.0), there_BL, CUT)


def agreement(scores: Sequence[Floats], teacher: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """Kendall's τ-b of each list, f64 `[B]`; NaN where fewer than two candidates are known to both."""
    scores_BL, there_BL = _padded(scores)
    teacher_BL, _ = _padded(teacher)
    both_BL = there_BL & ~np.isnan(scores_BL) & ~np.isnan(teacher_BL)
    clean = (np.where(both_BL, one, 0.0) for one in (scores_BL, teacher_BL))
    tau_B = metrics.kendall_tau(*clean, where=both_BL)
    return np.where(both_BL.sum(1) > 1, tau_B, np.nan)


def _padded(rows: Sequence[Floats]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Rows of different lengths as one array, and which places are real."""
    width = max((len(row) for row in rows), default=1)
    values_BL, there_BL = np.full((len(rows), width), np.nan), np.zeros((len(rows), width), bool)
    for n, row in enumerate(rows):
        values_BL[n, : len(row)], there_BL[n, : len(row)] = row, True
    return values_BL, there_BL

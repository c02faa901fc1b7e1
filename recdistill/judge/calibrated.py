"""Whether scores say how likely a candidate is liked: calibration within lists.

A student learns the order of a list and its proportions, not a probability of its own. So scores are compared as shares
of their list: softmax of the scores against the share of the labels.

It knows nothing of contenders or verdicts.

Example:
    >>> calibrated([np.array([0.0, 0.0])], [np.array([1.0, 1.0])]).error  # a half of the list is said, and is true
    0.0
    >>> calibrated([np.array([0.0, 0.0])], [np.array([1.0, 0.0])]).error
    0.5
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recdistill.judge.judgement import Calibrated

Floats = NDArray[np.float64]

GROUPS: Final = 10


def calibrated(scores: Sequence[Floats], labels: Sequence[Floats]) -> Calibrated | None:
    """Compares shares of scores with shares of labels, in ten groups of like share (Guo et al., 2017).

    Args:
        scores: Scores of the candidates of each list; NaN where there is none.
        labels: Their labels; above 0 is liked.

    Returns:
        None where no list has two known candidates and a liked one among them.
    """
    said, true, lists = [], [], 0
    for own, liked in zip(scores, labels, strict=True):
        known = np.isfinite(own)
        gains = np.maximum(liked[known], 0.0)
        if known.sum() < 2 or gains.sum() <= 0:
            continue
        shares = np.exp(own[known] - own[known].max())
        said.append(shares / shares.sum())
        true.append(gains / gains.sum())
        lists += 1
    if not lists:
        return None
    said_E, true_E = np.concatenate(said), np.concatenate(true)
    parts = [part for part in np.array_split(np.argsort(said_E, kind="stable"), GROUPS) if len(part)]
    groups = [(float(said_E[part].mean()), float(true_E[part].mean()), len(part)) for part in parts]
    error = sum(abs(one - other) * count for one, other, count in groups) / len(said_E)
    return Calibrated(lists=lists, error=error, groups=groups)

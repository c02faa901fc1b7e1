"""Measures whether scores say how likely it is that a candidate is liked: calibration within lists.

A student learns the scores of a list relative to each other. It does not learn the probability of a single candidate.
So shares are compared: the softmax of a list's scores with the share of the labels that each candidate has.

It knows nothing of contenders or verdicts.

Example:
    >>> calibrated([np.array([0.0, 0.0])], [np.array([1.0, 1.0])]).error  # scores say a half for each, and so do labels
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
    """Compares shares of scores with shares of labels, in ten groups of similar share (Guo et al., 2017).

    Args:
        scores: Scores of the candidates of each list. NaN: the candidate has no score.
        labels: Their labels. A label above 0 means that the candidate was liked.

    Returns:
        The comparison. None: no list has two candidates with a score of which one was liked.
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

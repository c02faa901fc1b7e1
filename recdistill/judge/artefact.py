"""Measures what ships, apart from how well it ranks: parity with training, the time of an answer, and bytes.

It knows nothing of held-out labels or of verdicts.

Example:
    >>> parity.__name__
    'parity'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from recdistill.judge.baselines import Baseline, Contender
from recdistill.judge.contenders import BundleContender, DeviceContender, as_request
from recdistill.judge.counted import CountedNeighbours, CountedPopularity
from recdistill.judge.judgement import STUDENT, Latency
from recdistill.records import Impression
from recdistill.serve import Recommender, Request

_SIZED = (Baseline, BundleContender, CountedNeighbours, CountedPopularity, DeviceContender)
_ASKED = 10
_TIMED = 300


def parity(recommender: Recommender) -> dict[str, float]:
    """The largest differences in scores: the one that the export measured, and the one of the golden answers.

    The golden scores were computed from the weights. Here the bundle scores the same items again, on this machine.
    """
    found: dict[str, float] = {}
    measured = recommender.bundle.manifest.provenance.get("measured")
    if isinstance(measured, dict) and isinstance(exported := measured.get("parity_max_abs"), int | float):
        found["towers at export"] = float(exported)
    worst = 0.0
    for golden in recommender.bundle.golden:
        request = Request(history=golden.history, context=golden.context, time_us=golden.time_us)
        answer = recommender.rank(request, list(golden.items))
        given = dict(zip(answer.items, answer.scores, strict=True))
        gaps = [abs(given[i] - s) if i in given else np.inf for i, s in zip(golden.items, golden.scores, strict=True)]
        # `max` would pass over a NaN, which counts as the largest difference.
        worst = max(worst, *(np.inf if np.isnan(gap) else gap for gap in gaps), 0.0)
    if recommender.bundle.golden:
        found["golden answers"] = min(float(worst), sys.float_info.max)  # JSON knows no infinity
    return found


def latency(recommender: Recommender, requests: Sequence[Impression]) -> Latency:
    """The time of one answer over the whole catalogue, asked one by one."""
    asked = [as_request(r) for r in requests[:_TIMED]]
    for request in asked[:20]:  # the first answers are slower, so they are not timed
        recommender.recommend([request], _ASKED)
    taken = []
    worked = time.process_time()
    for request in asked:
        begun = time.perf_counter()
        recommender.recommend([request], _ASKED)
        taken.append((time.perf_counter() - begun) * 1000)
    worked = (time.process_time() - worked) * 1000 / max(1, len(taken))
    p50, p99 = np.percentile(taken, [50, 99])
    return Latency(p50_ms=float(p50), p99_ms=float(p99), n=len(taken), processor_ms=worked)


def sizes(student: BundleContender, rivals: Sequence[Contender]) -> dict[str, int]:
    """Bytes of the bundle, of the student in float and in int8, and of each contender that knows its size."""
    found = {"bundle": student.recommender.bundle.size, STUDENT: student.size, "student_int8": student.size_int8}
    return found | {rival.name: rival.size for rival in rivals if isinstance(rival, _SIZED)}

"""A teacher that gives every candidate the same score from some list on."""

from __future__ import annotations

import numpy as np

from recdistill.watch.detectors import Finding, Scale
from recdistill.watch.observation import Observation


def test_scores_that_all_become_equal_have_no_spread() -> None:
    random, scale, found = np.random.default_rng(0), Scale(), list[Finding]()
    real, nothing = np.ones((256, 20), bool), np.zeros((256, 20))
    for step in range(8):
        scores = random.normal(size=(256, 20)) if step < 6 else np.full((256, 20), 50.0)
        seen = Observation(
            teachers=["t@1"] * 256,
            scores_BL=scores,
            scored_BL=real,
            labels_BL=nothing,
            labelled_BL=real,
            student_BL=nothing,
        ).of("t@1", 256 * step)
        assert seen is not None
        found += [one for one in [scale.observe(seen)] if one is not None]
    [one] = found
    assert one.why.endswith("and are now at 50 ± 0")

"""The curve that finds a teacher's sharpness; `test_watch` holds the sharpness against the labels' own."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.teacher_streams import Stream

from recdistill.watch.calibration import ENOUGH, SAMPLE, SHARPNESS_G, Calibration, lowest
from recdistill.watch.witnesses import label_curve


def test_the_lowest_point_of_a_curve_at_its_ends() -> None:
    assert lowest(SHARPNESS_G, np.arange(49.0)) == SHARPNESS_G[0]
    assert lowest(SHARPNESS_G, -np.arange(49.0)) == SHARPNESS_G[-1]


def test_a_sample_of_each_batch_is_added_up_and_few_are_not_believed() -> None:
    stream, calibration, expected, lists = Stream(0, labels=1.0), Calibration(), np.zeros(49), 0.0
    for _ in range(5):
        seen = stream.batch(100).of("t@1", 0)
        assert seen is not None
        believed = calibration.lists >= ENOUGH
        assert believed or calibration.sharpness() == 2.0
        calibration.add(seen)
        first = np.flatnonzero(((seen.labels_BL > 0) & seen.witnessed_BL).any(1))[:SAMPLE]
        keep = 0.5 ** (len(first) / 20_000)
        sample = seen.units_BL[first], seen.labels_BL[first], seen.witnessed_BL[first]
        expected = keep * expected + label_curve(*sample, SHARPNESS_G)
        lists = keep * lists + len(first)
    assert np.array(calibration.curve) == pytest.approx(expected)
    assert calibration.lists == pytest.approx(lists)
    assert ENOUGH < lists <= 5 * SAMPLE
    assert calibration.sharpness() != 2.0
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(calibration)), Calibration) == calibration

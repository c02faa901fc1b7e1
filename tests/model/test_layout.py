"""The names of an item's output, on numpy and torch alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recdistill.model import layout


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_names_cover_an_output_once(dim: int) -> None:
    output_NW = np.arange(3.0 * (dim + 2)).reshape(3, dim + 2)
    vector, bias, weight = (output_NW[:, part] for part in (layout.VECTOR, layout.BIAS, layout.WEIGHT))
    assert np.array_equal(np.concatenate([vector, bias[:, None], weight[:, None]], 1), output_NW)
    assert np.array_equal(output_NW[:, layout.KEY], np.concatenate([vector, bias[:, None]], 1))
    assert np.array_equal(output_NW[:, layout.BESIDE], np.stack([bias, weight], 1))
    assert layout.width(dim) == output_NW.shape[1] == sum(layout.parts(dim))
    assert layout.dim(output_NW.shape[1]) == vector.shape[1] == dim
    for name, part in zip(
        (layout.VECTOR, layout.BIAS, layout.WEIGHT),
        torch.from_numpy(output_NW).split(layout.parts(dim), -1),
        strict=True,
    ):
        assert np.array_equal(part.numpy().reshape(output_NW[:, name].shape), output_NW[:, name])


def test_a_raw_weight_of_0_means_1() -> None:
    assert math.log1p(math.exp(layout.UNIT_WEIGHT)) == pytest.approx(1, abs=1e-15)

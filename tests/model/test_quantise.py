"""Eight bits for a component: how near the vectors stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recdistill.errors import BundleError
from recdistill.model import quantise


@given(arrays(np.float32, (5, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_quantised_vectors_are_near(vectors: np.ndarray) -> None:
    """Half a step of 1/127 of the largest component, a little more for the scale in float16 (11 bits)."""
    quantised, scales = quantise(vectors)
    assert quantised.min() >= -127
    restored = quantised * scales.astype(np.float64)[:, None]
    largest = np.abs(vectors.astype(np.float64)).max(1, keepdims=True)
    step = largest / 127 * (1 + 2**-10) + 2**-24
    assert (np.abs(restored - vectors) <= 0.5 * step * (1 + 1e-5)).all()


def test_a_vector_that_diverged_is_refused() -> None:
    with pytest.raises(BundleError, match="training has diverged"):
        quantise(np.array([[1e8, 0.0]], np.float32))

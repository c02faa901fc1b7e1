"""What an item's output holds, by name, and the numbers that every form of the student shares.

The item tower gives W = D + 2 numbers for an item: the vector (D), the bias, and the weight of the item in a history.
The vector and the bias together are the key, which a user vector with a 1 behind it multiplies: one product gives the
score. numpy arrays, torch tensors and faiss keys are all cut by the names below, along their last axis.

It knows nothing of how the numbers come about.

Example:
    >>> import numpy as np
    >>> output_NW = np.array([[3.0, 4.0, 0.5, 1.0]])
    >>> output_NW[..., VECTOR].tolist(), output_NW[..., BIAS].tolist(), output_NW[..., WEIGHT].tolist()
    ([[3.0, 4.0]], [0.5], [1.0])
    >>> dim(4), width(2)
    (2, 4)
"""

from __future__ import annotations

from typing import Final

_BESIDE: Final = 2  # numbers beside the vector

VECTOR: Final = slice(None, -_BESIDE)
BIAS: Final = -2
WEIGHT: Final = -1
"""In a history. The towers give it after softplus (positive); a table's rows hold it raw."""

KEY: Final = slice(None, -1)
"""Vector and bias."""

BESIDE: Final = slice(-_BESIDE, None)
"""Bias and weight."""

UNIT_WEIGHT: Final = 0.5413248546129181
"""ln(e − 1), added to the raw weight: softplus of it is 1, so that a raw weight of 0 means 1."""

USER_LIMIT: Final = 1e15
"""A component of a user vector at or beyond it, or not finite, counts as 0: an absurd context value must not turn
every score into NaN."""


def width(dim: int) -> int:
    """W, of a vector of D numbers."""
    return dim + _BESIDE


def parts(dim: int) -> tuple[int, int, int]:
    """How wide vector, bias and weight are: what a `split` along the last axis takes."""
    return dim, 1, 1


def dim(width: int) -> int:
    """D, of an output of W numbers."""
    return width - _BESIDE

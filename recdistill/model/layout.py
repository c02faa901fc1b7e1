"""The parts of an item's output, by name, and numbers that every form of the student uses.

The item tower gives W = D + 2 numbers for an item: the vector (D), the bias, and the weight of the item in a history.
The vector and the bias together are the key. With a 1 after the user vector, one product with the key gives the score.
The names below cut numpy arrays, torch tensors and faiss keys along their last axis.

It knows nothing of how the numbers are computed.

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
"""Weight in a history. The output of a tower has it after softplus (positive). Rows of a table hold it raw."""

KEY: Final = slice(None, -1)
"""Vector and bias."""

BESIDE: Final = slice(-_BESIDE, None)
"""Bias and weight."""

UNIT_WEIGHT: Final = 0.5413248546129181
"""ln(e − 1). It is added to the raw weight before softplus, so a raw weight of 0 gives 1."""

USER_LIMIT: Final = 1e15
"""A component of a user vector that is this large, or is not finite, counts as 0. So an extreme context value cannot
make every score NaN.
"""


def width(dim: int) -> int:
    """W, for a vector of D numbers."""
    return dim + _BESIDE


def parts(dim: int) -> tuple[int, int, int]:
    """Widths of vector, bias and weight, for a `split` along the last axis."""
    return dim, 1, 1


def dim(width: int) -> int:
    """D, for an output of W numbers."""
    return width - _BESIDE

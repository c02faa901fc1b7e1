"""Checks the golden requests of a bundle: does this machine give the same answers as the machine that exported it?

Two items with nearly equal scores may change places, so scores are compared, not the order of ids.

It does not know how a request is scored.

Example:
    >>> check("bundle", 0, [2.0, 1.0], named=np.array([2.0, 1.0]), best=np.array([2.0, 1.00001]))
    >>> check("bundle", 3, [2.0, 1.0], named=np.array([2.0, 0.9]), best=np.array([2.0, 1.0]))
    Traceback (most recent call last):
    recdistill.errors.BundleError: bundle: golden request 3 gives 0.9 at place 1, expected 1; do not serve this bundle \
on this machine
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recdistill.errors import BundleError

TOLERANCE: Final = 2e-4  # for scores of about 1. Torch and ONNX agree within 1e-4, and golden scores have five digits.


def check(
    source: str,
    number: int,
    expected: Sequence[float],
    *,
    named: npt.NDArray[np.floating[Any]],
    best: npt.NDArray[np.floating[Any]],
) -> None:
    """Compares the scores of one golden request.

    Args:
        source: The bundle, for the error.
        number: The number of the request.
        expected: The scores at export, best first.
        named: The scores that the best items of the export have now.
        best: The best scores now.

    Raises:
        BundleError: A score has changed. The error names the request and both scores.
    """
    wanted = np.array(expected)
    for found in (named, best):
        wrong = ~(np.abs(found - wanted) <= TOLERANCE * np.maximum(1.0, np.abs(wanted)))
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise BundleError(
                f"{source}: golden request {number} gives {found[at]:.6g} at place {at}, "
                f"expected {wanted[at]:.6g}; do not serve this bundle on this machine"
            )

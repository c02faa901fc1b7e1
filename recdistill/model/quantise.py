"""Item vectors as 8-bit integers, as a device holds them. They need a quarter of the bytes.

It knows nothing of towers, graphs or files.

Example:
    >>> quantised, scales = quantise(np.array([[1.0, -0.5]], np.float32))
    >>> (quantised * scales[:, None].astype(np.float32)).round(2).tolist()
    [[1.0, -0.5]]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recdistill.errors import BundleError

Floats = npt.NDArray[np.float32]


def quantise(vectors_ND: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Vectors as int8 in ±127 with a float16 scale each: the largest component of a vector decides its scale.

    Raises:
        BundleError: A component is too large for a float16 scale.
    """
    largest_N = np.abs(vectors_ND).max(1, initial=0.0).astype(np.float64)
    with np.errstate(over="ignore"):  # the check is below
        scales_N = (largest_N / 127).astype(np.float16)
    # Rounding to float16 may have made the scale too small for the largest component.
    scales_N = np.where(
        scales_N.astype(np.float64) * 127 < largest_N, np.nextafter(scales_N, np.float16(np.inf)), scales_N
    )
    if not np.isfinite(scales_N).all():
        raise BundleError(f"an item vector has a component of {largest_N.max():.3g}: training has diverged")
    divisors_N1 = np.where(scales_N > 0, scales_N, 1).astype(np.float32)[:, None]
    quantised_ND = np.clip(np.rint(vectors_ND / divisors_N1), -127, 127).astype(np.int8)
    return quantised_ND, scales_N

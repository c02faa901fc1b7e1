"""How often each of very many keys was seen, about, in a fixed number of counters.

It is the count-min sketch of Cormode and Muthukrishnan (2005), with the conservative update of Estan and Varghese
(2002). A key has one counter in each of four rows. Its estimate is the least of the four. It is never below the true
count, and above it only where other keys share all four counters. `halve` halves every counter, so old counts fade.

The places of a key come from its 64-bit hash alone, so the same keys in the same order give the same counters.

It knows nothing of what the keys are.

Example:
    >>> sketch = Sketch(capacity=1000)
    >>> hashes = np.array([11, 22], np.uint64)
    >>> sketch.add(hashes, np.array([3, 1])).tolist(), sketch.add(hashes[:1], np.array([2])).tolist()
    ([3, 1], [5])
    >>> sketch.halve()
    >>> sketch.estimate(hashes).tolist(), sketch.table.nbytes
    ([2, 0], 16384)
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recdistill.errors import DataError
from recdistill.features.hashes import Hashes, Integers, mixed_of

DEPTH: Final = 4
_WIDTHS: Final = (1 << 10, 1 << 22)  # least and most counters of a row
_MOST: Final = 2**31 - 1

Counters = npt.NDArray[np.uint32]


class Sketch:
    """Counters.

    Args:
        capacity: How many keys are worth telling apart. A row has so many counters, rounded up to a power of two.
    """

    def __init__(self, capacity: int) -> None:
        self.table: Counters = np.zeros((DEPTH, width_of(capacity)), np.uint32)
        """uint32 `[4, width]`. Not to be changed."""

    def add(self, hashes_N: Hashes, counts_N: Integers) -> npt.NDArray[np.int64]:
        """Counts N different keys, and returns their estimates, int64 `[N]`."""
        places_DN = self._places(hashes_N)
        return self._raise(places_DN, self._least(places_DN) + counts_N)

    def at_least(self, hashes_N: Hashes, counts_N: Integers) -> None:
        """Raises the estimates of N different keys to some counts, where they are below."""
        self._raise(self._places(hashes_N), counts_N.astype(np.int64))

    def estimate(self, hashes_N: Hashes) -> npt.NDArray[np.int64]:
        """Estimates of N keys, int64 `[N]`."""
        return self._least(self._places(hashes_N))

    def halve(self) -> None:
        """Halves every counter, rounded down."""
        self.table >>= np.uint32(1)

    def restore(self, table: npt.NDArray[np.uint32]) -> None:
        """Takes the counters of a checkpoint.

        Raises:
            DataError: They are not the counters of such a sketch.
        """
        if table.shape != self.table.shape or table.dtype != self.table.dtype:
            raise DataError(f"the counters are {table.dtype} {table.shape}, not uint32 {self.table.shape}")
        self.table = table.copy()

    def _places(self, hashes_N: Hashes) -> list[npt.NDArray[np.int64]]:
        width = np.uint64(self.table.shape[1] - 1)
        return [(mixed_of(hashes_N ^ np.uint64(row)) & width).astype(np.int64) for row in range(DEPTH)]

    def _least(self, places_DN: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        found = [counters[places_N] for counters, places_N in zip(self.table, places_DN, strict=True)]
        least_N: npt.NDArray[np.int64] = np.minimum.reduce(found).astype(np.int64)
        return least_N

    def _raise(self, places_DN: list[npt.NDArray[np.int64]], counts_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Raises every counter of a key that is below the key's new count, and no other: the conservative update."""
        counts_N = np.minimum(counts_N, _MOST)
        for counters, places_N in zip(self.table, places_DN, strict=True):
            np.maximum.at(counters, places_N, counts_N.astype(np.uint32))
        return counts_N


def width_of(capacity: int) -> int:
    """Counters of each of the four rows."""
    least, most = _WIDTHS
    return min(max(1 << max(capacity - 1, 0).bit_length(), least), most)

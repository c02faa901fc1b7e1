r"""The wire form of records in slot order, as a checkpoint holds them: what has not changed is joined once, in blocks.

A record stands with its length before it, 4 bytes, little-endian. A free slot has length 0.

It knows nothing of items, or of what a record means.

Example:
    >>> written = Written()
    >>> for slot in range(3):
    ...     written.put(slot, framed(b"ab"))
    >>> written.put(1, None)  # it is made when it is asked for
    >>> bytes(written.joined(lambda slot: framed(b"c")))
    b'\x02\x00\x00\x00ab\x01\x00\x00\x00c\x02\x00\x00\x00ab'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 1024
"""Records that are joined together. After a change only these are joined again."""


def framed(record: bytes) -> bytes:
    """A record with its length before it."""
    return len(record).to_bytes(4, "little") + record


class Written:
    """See the header of this module."""

    def __init__(self) -> None:
        self._records: list[bytes | None] = []
        self._blocks: dict[int, bytes] = {}

    def put(self, slot: int, record: bytes | None) -> None:
        """Notes the record of a slot.

        Args:
            slot: At most one more than the last.
            record: With its length; None: it is made when it is asked for.
        """
        if slot == len(self._records):
            self._records.append(record)
        else:
            self._records[slot] = record
        self._blocks.pop(slot // BLOCK, None)

    def joined(self, make: Callable[[int], bytes]) -> npt.NDArray[Any]:
        """All records one after the other, uint8.

        Args:
            make: Makes the record of a slot that has none yet.
        """
        blocks = self._blocks
        for number in range(-(-len(self._records) // BLOCK)):
            if number not in blocks:
                start = number * BLOCK
                some = [
                    make(slot) if record is None else record
                    for slot, record in enumerate(self._records[start : start + BLOCK], start)
                ]
                self._records[start : start + BLOCK] = some
                blocks[number] = b"".join(some)
        return np.frombuffer(b"".join([blocks[number] for number in range(len(blocks))]), dtype=np.uint8)

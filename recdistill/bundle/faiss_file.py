"""Checks the bytes of `index.faiss` before faiss itself reads them.

A faiss file can say much more than recdistill ever writes: it can name other files of the machine, which faiss would
open for writing, or hold sizes that do not fit each other. So the file is walked through here, field by field. Only the
one form passes that `bundle.index` writes: an inverted file of 8-bit codes over flat centres, all of it in memory.

The layout is that of faiss 1.7 to 1.15 (`write_index` in its `impl/index_write.cpp`): little-endian, each vector after
its length. Numbers of 4 bytes are int32 or float32, those of 8 are uint64, a flag is one byte.

It knows nothing of bundles, nor of faiss as a library.

Example:
    >>> check(b"IxMp" + bytes(40), count=100, width=9, lists=16)
    Traceback (most recent call last):
    ...
    ValueError: begins with b'IxMp', not with b'IwSq'
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

_INNER_PRODUCT: Final = 0
_QT_8BIT: Final = 0


def check(data: bytes, *, count: int, width: int, lists: int) -> None:
    """Checks that the bytes are an index of this size, as recdistill writes it.

    Args:
        data: The file.
        count: Keys that it must hold; their numbers are 0 to count - 1, each once.
        width: Components of a key.
        lists: Cells.

    Raises:
        ValueError: They are not. The sentence goes on after the name of the file.
    """
    file = _Walk(data)
    file.word(b"IwSq")
    _header(file, "the index", width, count)
    file.same("its cells", file.take("Q"), lists)
    file.take("Q")  # how many cells to search by default; each search says its own number
    file.word(b"IxFI")
    _header(file, "the centres", width, lists)
    if not np.isfinite(file.array("<f4", lists * width, "centres")).all():
        raise ValueError("holds a centre that is not finite")
    file.same("its direct map", file.take("B"), 0)
    file.array("<i8", 0, "the direct map")
    file.same("its kind of code", file.take("i"), _QT_8BIT)
    file.take("if")  # how the range of the codes was found
    file.same("components of a code", file.take("Q"), width)
    file.same("bytes of a code", file.take("Q"), width)
    if not np.isfinite(file.array("<f4", 2 * width, "ranges")).all():
        raise ValueError("holds a range that is not finite")
    file.same("bytes of a code", file.take("Q"), width)
    file.same("codes of differences", file.take("B"), 0)
    # `ilar`: lists in memory. `ilod` would be lists in another file.
    file.word(b"ilar")
    file.same("its cells", file.take("Q"), lists)
    file.same("bytes of a code", file.take("Q"), width)
    numbers_N = _members(file, count=count, width=width, lists=lists)
    file.end()
    # numpy counts how often each number comes: all of 0..count-1, each once.
    if numbers_N.size and (numbers_N.min() < 0 or numbers_N.max() >= count):
        raise ValueError(f"names a key outside of 0 to {count - 1}")
    if (np.bincount(numbers_N, minlength=count) != 1).any():
        raise ValueError("names a key twice, and another one never")


def _header(file: _Walk, what: str, width: int, count: int) -> None:
    found_width, found_count, _, _, trained, metric = file.take_all("iqqqBi")
    file.same(f"components of {what}", found_width, width)
    file.same(f"entries of {what}", found_count, count)
    file.same(f"the trained mark of {what}", trained, 1)
    file.same(f"the metric of {what}", metric, _INNER_PRODUCT)


def _members(file: _Walk, *, count: int, width: int, lists: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Walks through the cells. Returns the numbers of all keys, `[N]`."""
    kind = file.raw(4)
    sizes_L = np.zeros(lists, np.int64)
    if kind == b"full":  # the size of each cell
        sizes_L = file.array("<i8", lists, "sizes")
    elif kind == b"sprs":  # number and size of each cell that is not empty
        pairs = file.array("<i8", None, "sizes")
        if pairs.size % 2 or pairs.size > 2 * lists:
            raise ValueError(f"holds {pairs.size} sizes for {lists} cells")
        cell, held = pairs[0::2], pairs[1::2]
        if cell.size and (cell.min() < 0 or cell.max() >= lists or len(np.unique(cell)) < len(cell)):
            raise ValueError("names a cell twice, or one that is not there")
        sizes_L[cell] = held
    else:
        raise ValueError(f"holds cells of the kind {kind!r}, not b'full' or b'sprs'")
    if (sizes_L < 0).any() or (sizes_L > count).any() or int(sizes_L.sum()) != count:
        raise ValueError(f"its cells do not hold {count} keys together")
    numbers = []
    for size in sizes_L.tolist():
        file.raw(size * width)
        numbers.append(np.frombuffer(file.raw(8 * size), "<i8"))
    return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)


class _Walk:
    """Bytes that are read from the beginning to the end."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def raw(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("ends too early")
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def take_all(self, kinds: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{kinds}", self.raw(struct.calcsize(f"<{kinds}")))

    def take(self, kinds: str) -> Any:
        return self.take_all(kinds)[0]

    def word(self, expected: bytes) -> None:
        if (found := self.raw(len(expected))) != expected:
            begins = "begins with" if self._at == len(expected) else "has a part"
            raise ValueError(f"{begins} {found!r}, not {'with ' if begins == 'begins with' else ''}{expected!r}")

    def same(self, what: str, found: int, expected: int) -> None:
        if found != expected:
            raise ValueError(f"{what}: {found}, expected {expected}")

    def array(self, kind: str, size: int | None, what: str) -> np.ndarray[Any, Any]:
        """A vector after its length. None takes any length that the bytes can hold."""
        length = self.take("Q")
        if size is not None:
            self.same(f"number of {what}", length, size)
        dtype = np.dtype(kind)
        return np.frombuffer(self.raw(length * dtype.itemsize), dtype)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"has {len(self._data) - self._at} bytes too many at its end")

"""Rows of many keys at once. The keys are texts, or pieces of a buffer that nobody has to decode.

It follows a `Rows`: before it answers, it asks which rows were given and which were given back. It is a table with open
addressing. An entry holds 96 bits of the key's hash and the row, not the key. Two different keys with the same 96 bits
would be taken for one. By chance this happens once in 10^16 look-ups in a table of a million. The seeds of the hashes
are secret and other ones in each process, so nobody can make two such keys. What is found does not depend on them.

An entry takes 16 bytes, and the table is at most half full. So a row takes 32 to 64 bytes here.

It knows nothing of what a row holds.

Example:
    >>> rows = Rows(first=1)
    >>> taken = [rows.take(key) for key in ("a", "bc")]
    >>> lookup = Lookup(rows)
    >>> lookup.rows_of(["bc", "a", "z"]).tolist()
    [2, 1, -1]
    >>> lookup.rows_in(b"[bc][z]", np.array([1, 5]), np.array([2, 1])).tolist()
    [2, -1]
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recdistill.features.hashes import Buffer, Hashes, Integers, several_hashes, spans_of
from recdistill.features.rows import Mark, Rows

_FIRST_ROOM: Final = 64  # entries; a power of two
_ROW_BITS: Final = np.uint64(0xFFFFFFFF)
_BLOCK: Final = 1 << 16  # keys hashed at once while following

IntRows = npt.NDArray[np.int32]


class Lookup:
    """Finds rows.

    Args:
        rows: The rows that it follows. Their numbers are below 2^32 - 1. Their `restore` may not be called later.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._seeds = (secrets.randbits(64), secrets.randbits(64))
        self._mark: Mark | None = None
        # Column 0: the first hash, never 0; 0 where an entry is free. Column 1: 32 bits of the second hash, and the
        # row + 1; the row is 0 where the entry's key is gone.
        self._table = np.zeros((_FIRST_ROOM, 2), np.uint64)
        self._used = 0  # entries that are not free
        self._hashes_R = np.zeros(0, np.uint64)  # first hash by row, to find the entry of a row that was given back

    def rows_of(self, keys: Sequence[str]) -> IntRows:
        """Rows of N texts, int32 `[N]`; -1 for a key that has none."""
        return self.rows_in(*spans_of(keys))

    def rows_in(self, data: Buffer, starts_N: Integers, lengths_N: Integers) -> IntRows:
        """Rows of N pieces of a buffer, int32 `[N]`; -1 for a key that has none.

        Args:
            data: The buffer; each piece is a key in UTF-8.
            starts_N: Where each piece begins.
            lengths_N: Its length in bytes.
        """
        self._follow()
        return self._find(*self._two(data, starts_N, lengths_N))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self._table.nbytes + self._hashes_R.nbytes

    def _follow(self) -> None:
        """Takes over what happened to the rows since the last look-up."""
        fresh, evicted, self._mark = self._rows.changes(self._mark)
        for row in evicted:
            self._forget(row)
        for start in range(0, len(fresh), _BLOCK):
            self._add(fresh[start : start + _BLOCK])

    def _add(self, rows: list[int]) -> None:
        keys = [key for row in rows if (key := self._rows.key(row)) is not None]
        first, second = self._two(*spans_of(keys))
        if 2 * (self._used + len(rows)) > len(self._table):
            self._grow(len(rows))
        rows_N = np.array(rows, np.int64)
        if (room := int(rows_N.max()) + 1) > len(self._hashes_R):
            self._hashes_R = np.pad(self._hashes_R, (0, max(room, 2 * len(self._hashes_R)) - len(self._hashes_R)))
        self._hashes_R[rows_N] = first
        self._insert(first, second | (rows_N + 1).astype(np.uint64))

    def _insert(self, first: Hashes, second: Hashes) -> None:
        """Puts new entries into the table, all at once. Of those that want one place, one gets it; the others go on."""
        self._used += len(first)
        last = len(self._table) - 1
        at = self._place(first)
        while len(first):
            free = np.flatnonzero(self._table[at, 0] == 0)
            _, one = np.unique(at[free], return_index=True)
            won = free[one]
            self._table[at[won], 0], self._table[at[won], 1] = first[won], second[won]
            left = np.ones(len(first), bool)
            left[won] = False
            first, second, at = first[left], second[left], (at[left] + 1) & last

    def _forget(self, row: int) -> None:
        """Marks the entry of a row as gone. It stays in the way of others until the table is made anew."""
        if row >= len(self._hashes_R) or not self._hashes_R[row]:
            return  # the row was given and given back since the last look-up
        at, last, wanted = int(self._place(self._hashes_R[row : row + 1])[0]), len(self._table) - 1, np.uint64(row + 1)
        self._hashes_R[row] = 0
        while self._table[at, 1] & _ROW_BITS != wanted:
            at = (at + 1) & last
        self._table[at, 1] = 0

    def _grow(self, more: int) -> None:
        """Makes the table anew, without the entries that are gone."""
        kept = self._table[(self._table[:, 0] != 0) & (self._table[:, 1] != 0)]
        room = _FIRST_ROOM
        while room < 2 * (len(kept) + more) + len(kept) // 2:  # some room for entries that will be gone
            room *= 2
        self._table, self._used = np.zeros((room, 2), np.uint64), 0
        self._insert(kept[:, 0].copy(), kept[:, 1].copy())

    def _place(self, first: Hashes) -> npt.NDArray[np.int64]:
        """Where the search for an entry begins: the low bits of its first hash."""
        return (first & np.uint64(len(self._table) - 1)).astype(np.int64)

    def _find(self, first: Hashes, second: Hashes) -> IntRows:
        rows_N = np.full(len(first), -1, np.int32)
        at, which, last = self._place(first), np.arange(len(first)), len(self._table) - 1
        while len(which):
            entries = self._table.take(at, axis=0)
            hit = (entries[:, 0] == first) & ((entries[:, 1] ^ second) <= _ROW_BITS) & (entries[:, 1] & _ROW_BITS != 0)
            rows_N[which[hit]] = (entries[hit, 1] & _ROW_BITS).astype(np.int64) - 1
            left = np.flatnonzero(~hit & (entries[:, 0] != 0))
            which, first, second, at = which[left], first[left], second[left], (at[left] + 1) & last
        return rows_N

    def _two(self, data: Buffer, starts_N: Integers, lengths_N: Integers) -> tuple[Hashes, Hashes]:
        """The two columns of entries, without the rows."""
        first, second = several_hashes(data, starts_N, lengths_N, self._seeds)
        return np.maximum(first, np.uint64(1)), second & ~_ROW_BITS

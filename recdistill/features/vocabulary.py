"""Ids and category values -> rows of the student's tables.

Row 0 is unknown. Rows 1 to `hashed` are shared: a value without a row of its own always gets the same one of them. Then
come the rows of admitted values, in the order of admission, until the capacity is full (`rows.py` gives them).
`release` takes a row back. Its value gets its shared row again, and the next admitted value takes the lowest free row.
Code that keeps something for each row asks `changes`. The trainer's `Tenure` decides who waits, and who loses a row.

A snapshot lists the values in row order, with `null` where a row is free. If no row was ever given back, there is no
`null`. Versions that could not free a row refuse a `null`.

A hashed row is `1 + crc32(value as UTF-8, started from crc32(key)) mod hashed`. It is the same on every machine and in
every version.

It does not know what a row holds.

Example:
    >>> from recdistill.features.spec import FeatureSpec, IdSpec
    >>> vocabulary = Vocabulary(FeatureSpec(id=IdSpec(capacity=2, hashed=0)))
    >>> vocabulary.rows("id", ["a", "b", "c"], admit=True).tolist(), vocabulary.rows("id", ["b", "z"]).tolist()
    ([1, 2, 0], [2, 0])
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import DataError
from recdistill.features.hashes import Integers
from recdistill.features.lookup import Lookup
from recdistill.features.rows import Changes, Mark, Rows
from recdistill.features.spec import FeatureSpec

UNKNOWN: Final = 0


class Vocabulary:
    """The admitted values of every category field, and of item ids.

    Args:
        spec: Which keys there are ("id", and "item.<field>", "context.<field>" of categories), with hashed
            rows and capacity.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.released = 0
        """How often a row was given back. A restored vocabulary starts at the number of its free rows.

        While it is 0, nothing was ever kept for a fresh row. While it stays the same, no row was given back, so nobody
        has to act.
        """
        self._waiting: dict[str, dict[str, int]] | None = None
        self._own: dict[str, Rows] = {}
        self._min_seen = {key: spec.min_seen(key) for key in spec.vocabulary_keys()}
        self._lookups: dict[str, Lookup] = {}  # made when first asked for
        self._hashed: dict[str, int] = {}
        self._seed: dict[str, int] = {}
        for key in spec.vocabulary_keys():
            hashed, capacity = spec.reserved(key)
            self._own[key] = Rows(first=1 + hashed, capacity=capacity)
            self._hashed[key] = hashed
            self._seed[key] = zlib.crc32(key.encode())

    @property
    def keys(self) -> list[str]:
        """The keys that have rows: "id", and each category field."""
        return list(self._own)

    def row(self, key: str, value: str, *, admit: bool = False) -> int:
        """Row of one value. With `admit`, a new value gets its own row while there is room.

        Where somebody counts what waits, a value that must be seen more than once is counted instead.
        """
        own = self._own[key]
        row = own.row_of.get(value, -1)
        if row < 0 and admit:
            if self._waiting is None or self._min_seen[key] == 1:
                row = own.take(value)
            if row < 0:
                self.saw(key, value)
        return row if row >= 0 else self.shared_row(key, value)

    def saw(self, key: str, value: str, times: int = 1) -> None:
        """Counts a value that has no row, where somebody wants to know."""
        if self._waiting is not None and key in self._waiting:
            self._waiting[key][value] = self._waiting[key].get(value, 0) + times

    def waiting(self, *keys: str) -> list[dict[str, int]]:
        """Of each of these keys: values that were seen and have no row, and how often since the last call.

        Before the first call nobody counts. Then every value is admitted at once, while there is room.
        """
        found = [(self._waiting or {}).get(key, {}) for key in keys]
        self._waiting = {**(self._waiting or {}), **{key: {} for key in keys}}
        return found

    @property
    def counts_waiting(self) -> bool:
        """Whether somebody counts the values that have no row."""
        return self._waiting is not None

    def admit(self, key: str, value: str) -> int:
        """Gives a value a row of its own, or -1 where there is no room."""
        return self._known(key).take(value)

    def own(self, key: str) -> Rows:
        """The rows of a key, for whoever decides on them.

        Raises:
            DataError: When the vocabulary has no such key.
        """
        return self._known(key)

    def has(self, key: str, value: str) -> bool:
        """Whether a value has a row of its own."""
        return value in self._own[key].row_of

    def shared_row(self, key: str, value: str) -> int:
        """The row that a value has while it has none of its own."""
        return self._shared(key, value.encode("utf-8", "surrogatepass"))

    def _shared(self, key: str, value: bytes) -> int:
        hashed = self._hashed[key]
        return 1 + zlib.crc32(value, self._seed[key]) % hashed if hashed else UNKNOWN

    def rows(self, key: str, values: Sequence[str], *, admit: bool = False) -> npt.NDArray[np.int32]:
        """Rows of many values, int32 [N]. With `admit`, new values are admitted in the order given.

        Raises:
            DataError: When the vocabulary has no such key.
        """
        known = self._known(key).row_of
        found = [known.get(value, -1) for value in values]
        rows_N = np.array(found, dtype=np.int32)
        if -1 in found:
            for index in np.flatnonzero(rows_N < 0).tolist():
                rows_N[index] = self.row(key, values[index], admit=admit)
        return rows_N

    def rows_in(self, key: str, data: bytes, starts_N: Integers, lengths_N: Integers) -> npt.NDArray[np.int32]:
        """Rows of many values that are pieces of a buffer, int32 [N]. Nothing is admitted. See `Lookup`.

        Raises:
            DataError: When the vocabulary has no such key.
        """
        own = self._known(key)
        rows_N = self._lookups.setdefault(key, Lookup(own)).rows_in(data, starts_N, lengths_N)
        if not self._hashed[key]:
            rows_N[rows_N < 0] = UNKNOWN
        for index in np.flatnonzero(rows_N < 0).tolist():
            start = int(starts_N[index])
            rows_N[index] = self._shared(key, data[start : start + int(lengths_N[index])])
        return rows_N

    def release(self, key: str, value: str) -> int:
        """Takes a value's own row back.

        Returns:
            The row, which the next admitted value may take.

        Raises:
            DataError: The value has no row of its own, or the vocabulary has no such key.
        """
        row = self._known(key).release(value)
        self.released += 1
        return row

    def changes(self, key: str, since: Mark | None) -> Changes:
        """Which rows of a key were given and which were given back since a mark; see `Rows.changes`."""
        return self._own[key].changes(since)

    def mark(self, key: str) -> Mark:
        """A mark of now, for a later `changes`."""
        return self._own[key].mark

    def values(self, key: str, rows: Sequence[int]) -> list[str]:
        """The values that have these rows.

        Raises:
            DataError: A row is free.
        """
        found = [self._own[key].key(row) for row in rows]
        if None in found:
            raise DataError(f"vocabulary {key}: row {rows[found.index(None)]} has no value")
        return [value for value in found if value is not None]

    def size(self, key: str) -> int:
        """Number of rows that can be in use: unknown, hashed, and up to the highest row that was ever given to a value.

        The table itself is `spec.rows(key)` high.
        """
        return self._own[key].end

    def admitted(self, key: str) -> list[str]:
        """Values with a row of their own, in row order."""
        return list(self._own[key])

    @property
    def holes(self) -> bool:
        """Whether a row was given back and is free now."""
        return any(len(rows) < rows.end - rows.first for rows in self._own.values())

    def snapshot(self) -> dict[str, list[str | None]]:
        """Admitted values of each key in row order, None where a row is free; goes to JSON as it is."""
        return {key: rows.snapshot() for key, rows in self._own.items()}

    @classmethod
    def restore(cls, spec: FeatureSpec, snapshot: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that `snapshot` was taken of.

        Raises:
            DataError: When the snapshot does not fit the specification; it names the key.
        """
        vocabulary = cls(spec)
        if set(snapshot) != set(vocabulary._own):
            odd = sorted(set(snapshot) ^ set(vocabulary._own))
            raise DataError(f"vocabulary and feature specification differ in {', '.join(odd)}")
        for key, rows in vocabulary._own.items():
            values = snapshot[key]
            if not isinstance(values, list) or not all(value is None or isinstance(value, str) for value in values):
                raise DataError(f"vocabulary {key}: is not a list of texts")
            try:
                rows.restore(values)
            except DataError as e:
                raise DataError(f"vocabulary {key}: {e}") from e
            vocabulary.released += values.count(None)
        return vocabulary

    @property
    def hash(self) -> str:
        """SHA-256 in hexadecimal digits of the admitted values and of the rows reserved for each key."""
        layout = [[key, self._hashed[key], self.spec.rows(key), rows.snapshot()] for key, rows in self._own.items()]
        return hashlib.sha256(msgspec.json.encode(layout)).hexdigest()

    def _known(self, key: str) -> Rows:
        rows = self._own.get(key)
        if rows is None:
            raise DataError(f"the vocabulary has no key {key!r}; it has {', '.join(self._own)}")
        return rows

"""Ids and category values -> rows of the student's tables.

Row 0 is unknown. Rows 1 to `hashed` are shared: a value without a row of its own always falls to the same one of
them. Then come the admitted values, in the order in which they were admitted, until the capacity is full. A row is
never given away, so what a value maps to changes at most once: when it is admitted.

A hashed row is `1 + crc32(value as UTF-8, started from crc32(key)) mod hashed`: the same on every machine and in every
version.

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
from recdistill.features.spec import FeatureSpec

UNKNOWN: Final = 0


class Vocabulary:
    """The admitted values of every category field, and of item ids.

    Args:
        spec: Which keys there are ("id", and "item.<field>", "context.<field>" of categories), with hashed rows and
            capacity.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._rows: dict[str, dict[str, int]] = {}
        self._hashed: dict[str, int] = {}
        self._height: dict[str, int] = {}
        self._seed: dict[str, int] = {}
        for key in spec.vocabulary_keys():
            hashed, capacity = spec.reserved(key)
            self._rows[key] = {}
            self._hashed[key] = hashed
            self._height[key] = 1 + hashed + capacity
            self._seed[key] = zlib.crc32(key.encode())

    def row(self, key: str, value: str, *, admit: bool = False) -> int:
        """Row of one value; with `admit`, a new value gets its own row while there is room."""
        rows = self._rows[key]
        row = rows.get(value)
        if row is not None:
            return row
        hashed = self._hashed[key]
        if admit:
            row = 1 + hashed + len(rows)
            if row < self._height[key]:
                rows[value] = row
                return row
        return 1 + zlib.crc32(value.encode("utf-8", "surrogatepass"), self._seed[key]) % hashed if hashed else UNKNOWN

    def rows(self, key: str, values: Sequence[str], *, admit: bool = False) -> npt.NDArray[np.int32]:
        """Rows of many values, int32 [N]. With `admit` new ones are admitted in the order given.

        Raises:
            DataError: When the vocabulary has no such key.
        """
        known = self._rows.get(key)
        if known is None:
            raise DataError(f"the vocabulary has no key {key!r}; it has {', '.join(self._rows)}")
        found = [known.get(value, -1) for value in values]
        rows_N = np.array(found, dtype=np.int32)
        if -1 in found:
            for index in np.flatnonzero(rows_N < 0).tolist():
                rows_N[index] = self.row(key, values[index], admit=admit)
        return rows_N

    def size(self, key: str) -> int:
        """Rows in use: unknown, hashed and admitted ones. The table itself is `spec.rows(key)` high."""
        return 1 + self._hashed[key] + len(self._rows[key])

    def admitted(self, key: str) -> list[str]:
        """Values with a row of their own, in order of admission: value i has row `1 + hashed + i`."""
        return list(self._rows[key])

    def snapshot(self) -> dict[str, list[str]]:
        """Admitted values of each key in order; goes to JSON as it is."""
        return {key: list(rows) for key, rows in self._rows.items()}

    @classmethod
    def restore(cls, spec: FeatureSpec, snapshot: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that `snapshot` was taken of.

        Raises:
            DataError: When the snapshot does not fit the specification; it names the key.
        """
        vocabulary = cls(spec)
        if set(snapshot) != set(vocabulary._rows):
            odd = sorted(set(snapshot) ^ set(vocabulary._rows))
            raise DataError(f"vocabulary and feature specification differ in {', '.join(odd)}")
        for key, rows in vocabulary._rows.items():
            values = snapshot[key]
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise DataError(f"vocabulary {key}: is not a list of texts")
            first = 1 + vocabulary._hashed[key]
            if first + len(values) > vocabulary._height[key]:
                raise DataError(f"vocabulary {key}: {len(values)} values do not fit its {spec.rows(key)} rows")
            rows.update((value, first + index) for index, value in enumerate(values))
            if len(rows) != len(values):
                raise DataError(f"vocabulary {key}: a value is there twice")
        return vocabulary

    @property
    def hash(self) -> str:
        """SHA-256 in hexadecimal digits of the admitted values and of the rows reserved for each key."""
        layout = [[key, self._hashed[key], self._height[key], list(rows)] for key, rows in self._rows.items()]
        return hashlib.sha256(msgspec.json.encode(layout)).hexdigest()

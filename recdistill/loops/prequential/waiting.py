"""Lists whose scores are kept until their labels come: only the scores, and only of so many bytes.

A list is known by a hash of its id. Where too many wait, the oldest goes, and so does one that has waited too long.

It knows nothing of records, models or logs.

Example:
    >>> waiting = Waiting()
    >>> scores = {"weights": np.array([0.5, 0.1], np.float32)}
    >>> waiting.put(b"one", Scored.of(scores, group=3, window_us=0, clock_us=5))
    >>> waiting.take(b"one").scores()["weights"].tolist(), waiting.take(b"one") is None
    ([0.5, 0.10000000149011612], True)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

MOST_BYTES: Final = 4_000_000
"""Bytes of all scores that wait."""

Floats = npt.NDArray[np.float32]


class Scored(Struct, frozen=True, kw_only=True):
    """The scores of one list.

    Attributes:
        lines: Who scored it.
        values: f32 `[lines, L]`, as bytes; NaN where a line does not know a candidate.
        group: The group of its user.
        window_us: Beginning of the window in which it came.
        clock_us: The time at which it came.
    """

    lines: tuple[str, ...]
    values: bytes
    group: int
    window_us: int
    clock_us: int

    @classmethod
    def of(cls, scores: Mapping[str, Floats], *, group: int, window_us: int, clock_us: int) -> Scored:
        """Keeps scores, one `[L]` for each line."""
        values = np.stack(list(scores.values())).astype("<f4").tobytes()
        return cls(lines=tuple(scores), values=values, group=group, window_us=window_us, clock_us=clock_us)

    def scores(self) -> dict[str, Floats]:
        """The scores again, f32 `[L]` for each line."""
        values = np.frombuffer(self.values, "<f4").reshape(len(self.lines), -1)
        return dict(zip(self.lines, values, strict=True))


class Waiting(Struct):
    """The lists that wait, oldest first.

    Attributes:
        lists: By the hash of the id.
        size: Bytes of their scores.
        dropped: How many went because too many waited.
    """

    lists: dict[bytes, Scored] = {}
    size: int = 0
    dropped: int = 0

    def put(self, key: bytes, scored: Scored) -> None:
        """A list begins to wait. One that was ranked twice waits with its newest scores."""
        self.take(key)
        self.lists[key] = scored
        self.size += len(scored.values)
        while self.size > MOST_BYTES:
            self.take(next(iter(self.lists)))
            self.dropped += 1

    def take(self, key: bytes) -> Scored | None:
        """The scores of a list whose labels are there; it waits no longer. None: it does not wait."""
        if (found := self.lists.pop(key, None)) is not None:
            self.size -= len(found.values)
        return found

    def forget(self, before_us: int) -> None:
        """Lets go of what came before a time: no label came."""
        while self.lists and next(iter(self.lists.values())).clock_us < before_us:
            self.take(next(iter(self.lists)))

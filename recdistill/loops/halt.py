"""Halts a stage when too many of its last records cannot be used.

A few bad records are normal, and go to the dead letters. When most of them are bad, something else is wrong: a mapping,
a schema, another version of a producer. Then the stage stops before it writes that batch, so nothing has to be mended
record by record.

It knows nothing of what a record is.

Example:
    >>> halt = Halt("translate", most=2, of=10)
    >>> halt.take([None] * 100)
    >>> halt.take([None, ValueError("no id"), ValueError("no id"), None, ValueError("no time")])
    Traceback (most recent call last):
    recdistill.errors.TooManyBad: 3 of the last 10 records cannot be used, more than bad_records.most = 2; the last: ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from recdistill.errors import TooManyBad


class Halt:
    """Counts good and bad records of one stage.

    Args:
        verb: The verb of the stage on the command line.
        most: So many of the last ones may be bad; 0: any.
        of: How many of the last ones are looked at.
    """

    def __init__(self, verb: str, *, most: int, of: int) -> None:
        self._verb, self._most = verb, most
        self._last: deque[bool] = deque(maxlen=of)
        self._bad = 0

    def take(self, records: Sequence[Exception | None]) -> None:
        """Counts a batch, before it is written.

        Args:
            records: For each record, in order, why it cannot be used; None where it can.

        Raises:
            TooManyBad: Too many of the last ones cannot be used.
        """
        if not self._most:
            return
        for error in records:
            if len(self._last) == self._last.maxlen:
                self._bad -= self._last[0]
            self._last.append(error is not None)
            self._bad += error is not None
            if error is not None and self._bad > self._most:
                raise TooManyBad(
                    f"{self._bad:,} of the last {len(self._last):,} records cannot be used, more than bad_records.most "
                    f"= {self._most:,}; the last: {error}; nothing of this batch was written: mend what is wrong and "
                    "start again, raise bad_records.most (0: never halt), or pass the records over with "
                    f"`recdistill {self._verb} --from`"
                )

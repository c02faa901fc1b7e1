"""A record as its bytes, with what a writer asks about it: so a record that was checked once is not encoded again.

It knows nothing of topics or logs.

Example:
    >>> from recdistill.records import Item
    >>> one = encoded(Item("a", time_us=5))
    >>> one.kind.__name__, one.key, one.time_us
    ('Item', b'a', 5)
"""

from __future__ import annotations

from typing import NamedTuple

from recdistill.records.structs import Example, Ranking, Record


class Encoded(NamedTuple):
    """A record that was checked and encoded.

    Attributes:
        kind: Its class.
        key: Its key on its topic.
        value: Its bytes, from `encode`.
        time_us: Its time; of a ranking or an example, the time of the impression in it.
    """

    kind: type[Record]
    key: bytes
    value: bytes
    time_us: int


def encoded(record: Record, value: bytes | None = None) -> Encoded:
    """Checks and encodes a record.

    Args:
        record: The record.
        value: Its bytes, if somebody has encoded it already.

    Raises:
        DataError: The record breaks a rule.
    """
    from recdistill.records import encode, key_of  # this module is a part of theirs

    return Encoded(type(record), key_of(record), encode(record) if value is None else value, _time_of(record))


def _time_of(record: Record) -> int:
    if isinstance(record, Example):
        record = record.ranking
    return record.impression.time_us if isinstance(record, Ranking) else record.time_us

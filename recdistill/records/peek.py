"""Says of most examples without a label that they have none, from a few bytes: a judge need not decode them.

In the frame that recdistill writes, the ranking is one field with a length, and the labels follow it. So two lengths
are read, and the labels. Of other bytes (JSON, or the frame of another writer) nothing is said.

It knows nothing of logs.

Example:
    >>> from recdistill.records.codec import write
    >>> from recdistill.records.structs import Candidate, Example, Impression, Ranking
    >>> shown = Impression("r1", 5, candidates=(Candidate("a"), Candidate("b")))
    >>> ranking = Ranking(shown, "t", "1", "logit", (1.0, 0.0), (True, True))
    >>> [may_have_label(write(Example(ranking, labels, "closed"))) for labels in ((0.0, 0.0), (0.0, 2.0))]
    [False, True]
    >>> may_have_label(b'{"ranking": ...')
    True
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recdistill._wire import records_pb2 as wire
from recdistill.records.framing import frame

_PREFIX: Final = frame([list(wire.DESCRIPTOR.message_types_by_name).index("Example")])
_RANKING: Final = 1 << 3 | 2  # tags of the two fields; both have a length
_LABELS: Final = 2 << 3 | 2
_STATE: Final = 3 << 3
_SERVED: Final = bytes([7 << 3, wire.ORIGIN_SERVED])  # the field `origin` of an impression, and its number


def may_have_label(value: bytes | None) -> bool:
    """False only where the bytes are an example of which every label is 0. Otherwise decode them and look."""
    at = len(_PREFIX)
    if value is None or not value.startswith(_PREFIX) or len(value) == at or value[at] != _RANKING:
        return True
    length, at = _varint(value, at + 1)
    at += length
    if at >= len(value) or value[at] != _LABELS:
        return True
    length, at = _varint(value, at + 1)
    if length % 4 or not 0 < length <= len(value) - at:
        return True
    if at + length < len(value) and value[at + length] != _STATE:  # another writer may have cut the labels into parts
        return True
    return bool((np.frombuffer(value, "<f4", length // 4, at) != 0).any())


def may_be_served(value: bytes | None) -> bool:
    """False only where the bytes are no list that the endpoint served: the two bytes of this origin are nowhere."""
    return value is not None and (_SERVED in value or not value.startswith(_PREFIX))


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place behind it. Of one that is cut short: 0, and the end."""
    number = shift = 0
    while at < len(value) and shift < 35:
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
    return 0, len(value)

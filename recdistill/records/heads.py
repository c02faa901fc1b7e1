"""What the joiner must know of a ranking: five small fields. The rest is copied as it came.

`read_heads` accepts and refuses the same values as `decode` does. `example_around` writes an example around the bytes
of a ranking, without looking into them.

It knows nothing of logs or windows.

Example:
    >>> from recdistill.records import Candidate, Example, Impression, decode, encode, read_heads
    >>> asked = Impression("r1", 5, user="u", candidates=(Candidate("a"), Candidate("b")))
    >>> value = encode(Ranking(asked, "bst", "3", "logit", (1.5, 0.0), (True, False)))
    >>> head, error = read_heads([value, b"noise"])
    >>> (head.id, head.user, head.time_us, head.origin, head.candidates), type(error).__name__
    (('r1', 'u', 5, 'product', 2), 'DecodeError')
    >>> decode(Example, example_around(head.value, [0.0, 1.0], "labels", key=b"r1")).labels
    (0.0, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from recdistill.errors import DataError, DecodeError
from recdistill.limits import MAX_BYTES, MAX_LABEL
from recdistill.records import codec
from recdistill.records.columns import Columns, Decode
from recdistill.records.columns import read as read_columns
from recdistill.records.structs import LabelState, Origin, Ranking


class Head(NamedTuple):
    """A ranking that was checked, with the little that is known of it.

    Attributes:
        id: Of its impression.
        user: None where there is none.
        time_us: Of its impression; 0 where unknown.
        origin: Who asked.
        candidates: How many it has.
        value: Its bytes, as `encode` writes them.
    """

    id: str
    user: str | None
    time_us: int
    origin: Origin
    candidates: int
    value: bytes


def read(values: Sequence[bytes | None], *, decode: Decode) -> list[Head | DecodeError]:
    """Reads and checks many rankings, see `recdistill.records.read_heads`.

    Args:
        values: Whole values of messages.
        decode: The slow way for one value.
    """
    columns, refused = read_columns(Ranking, values, decode=decode)
    heads = iter(_heads(columns))
    return [refused[place] if place in refused else next(heads) for place in range(len(values))]


def _heads(columns: Columns) -> list[Head]:
    return list(
        map(
            Head,
            columns.ids,
            columns.users,
            columns.times_E.tolist(),
            columns.origins,
            columns.counts_E.tolist(),
            columns.values,
        )
    )


def example_around(value: bytes, labels: Sequence[float], state: LabelState, *, key: bytes) -> bytes:
    """Frames an example around the bytes of a ranking, which are copied.

    Args:
        value: A ranking as `encode` writes it, such as `Head.value`. It is not looked into.
        labels: One for each of its candidates, at least 0.
        state: What the labels say.
        key: Under which it will be written; it counts for the size.

    Raises:
        DataError: A label is outside of its bounds, or a log cannot take a value of this size.
    """
    if labels and not (min(labels) >= 0 and max(labels) <= MAX_LABEL and math.isfinite(sum(labels))):
        raise DataError(f"cannot write this example: a label is not between 0 and {MAX_LABEL:,.0f}")
    made = codec.around_ranking(value, labels, state)
    if (size := len(made) + len(key)) > MAX_BYTES:
        raise DataError(
            f"cannot write this example: {size:,} bytes with its key, more than the {MAX_BYTES:,} that a log takes"
        )
    return made

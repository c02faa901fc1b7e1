"""How large things may be: the one place where the limits of records, messages and numbers stand.

A log takes messages of one size, and each stage adds to what it reads: the scorer adds scores, and the joiner labels.
So what comes first must leave room for what comes after. Numbers have bounds so that nothing that is computed from them
overflows a 32-bit float.

It knows nothing of the rest of the package.

Example:
    >>> room_of(20_000)  # bytes that an impression of so many candidates may have
    732000
    >>> MAX_WEIGHT * MAX_VALUE == MAX_LABEL
    True
"""

from __future__ import annotations

from typing import Final

# Bytes

MAX_BYTES: Final = 1_000_000
"""Key and value of one message together, and so of one record. A broker with default settings refuses a little more."""

MAX_JSON: Final = 16 << 20
"""Bytes of the JSON form of a record. It is longer than the form that is written."""

MAX_HEADERS: Final = 32_000
"""Bytes of the headers of one message. Together with `MAX_BYTES` it is what a broker with default settings takes."""

MAX_NOTE: Final = 4_000
"""Bytes of a stage's note. A broker with default settings refuses more than 4,096 bytes of commit metadata."""

# Counts

MAX_ID: Final = 512
"""Characters of an id."""

MAX_TEXT: Final = 65_536
"""Characters of one attribute or context value."""

MAX_VALUES: Final = 4_096
"""Members of one list value."""

MAX_FIELDS: Final = 256
"""Attributes of an item, context values of an impression."""

MAX_HISTORY: Final = 10_000
"""Events of a history."""

MAX_CANDIDATES: Final = 50_000
"""Candidates of an impression. With long ids `MAX_BYTES` allows fewer."""

MAX_COLUMNS: Final = 4_096
"""Columns of a table that is imported. Many more mean a wrong delimiter, or a table on its side."""

MAX_EXCLUDE: Final = 100_000
"""Items that an impression excludes."""

# Numbers

MAX_TIME_US: Final = 253_402_300_799_000_000
"""The last second of the year 9999."""

MAX_FLOAT: Final = 3.4028234663852886e38
"""The largest 32-bit float."""

MAX_SCORE: Final = 1e12
"""Size of a teacher's or a product's score. Its square, summed over a list, is far from overflow."""

MAX_VALUE: Final = 1e9
"""Size of the value of a feedback."""

MAX_WEIGHT: Final = 1e3
"""Weight of an action in `join.labels`."""

MAX_LABEL: Final = 1e12
"""A label: a weight times a value."""

MAX_VECTOR: Final = 1e9
"""Size of one number of a vector that a model sees."""

MIN_CHANCE: Final = 2.0**-30
"""The least probability. One over it is a weight. It is a power of two, so a 32-bit float holds it exactly."""

MIN_BUDGET: Final = 1e-6
"""The least teacher budget. The probabilities that follow from it are above `MIN_CHANCE`."""

_SCORER_ADDS: Final = 8_000
"""Bytes that a ranking and an example add to an impression: two names of up to 512 characters, the key, the numbers."""

_A_CANDIDATE_ADDS: Final = 13
"""Bytes for each candidate: a score, a label and a probability of 4 bytes, and a bit that says whether it is scored."""

_JOINER_ADDS: Final = 100
_A_LABEL_ADDS: Final = 4


def room_of(candidates: int) -> int:
    """Bytes that an impression may have, so that its ranking and its example still fit into a message."""
    return MAX_BYTES - _SCORER_ADDS - _A_CANDIDATE_ADDS * candidates


def room_of_ranking(candidates: int) -> int:
    """Bytes that a ranking may have with its key, so that its example still fits into a message."""
    return MAX_BYTES - _JOINER_ADDS - _A_LABEL_ADDS * candidates

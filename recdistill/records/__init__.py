"""Bytes <-> items, impressions, rankings, feedback and examples: the only wire knowledge.

On a topic a value is protobuf (`schemas/records.proto`) framed as Confluent does. At the edge a value that starts with
`{` is read as the JSON form of the same message, which is simply the struct. Both ways a record is checked:

- ids are 1 to 512 characters without NUL; the candidates of one list differ, and none of them is in `exclude`;
- numbers are finite and fit the 32-bit floats of the schema; labels are at least 0; a score and a label a candidate;
- times are microseconds since the epoch up to the year 9999, 0 where unknown; a history is oldest first and not later
  than its impression;
- lists, texts and whole records are bounded (the `MAX_` constants).

It does not know logs, features or which items exist.

Example:
    >>> impression = Impression("r1", 5, candidates=(Candidate("a"), Candidate("b")))
    >>> ranking = Ranking(impression, "bst", "3", "logit", (1.5, 0.0), (True, False))
    >>> decode(Ranking, encode(ranking)) == ranking
    True
    >>> decode(Item, b'{"id": "a", "attributes": {"genres": ["drama", "war"], "year": 1994}}').attributes["year"]
    1994.0
"""

from __future__ import annotations

from typing import Final

import msgspec
from google.protobuf.message import DecodeError as ProtobufError

from recdistill.errors import DataError, DecodeError
from recdistill.records import codec
from recdistill.records.checks import (
    CHECKS,
    MAX_BYTES,
    MAX_CANDIDATES,
    MAX_FIELDS,
    MAX_HISTORY,
    MAX_ID,
    MAX_TEXT,
    MAX_TIME_US,
    MAX_VALUES,
    Invalid,
    check_history,
    check_labels,
    check_scores,
    check_values,
)
from recdistill.records.render import render
from recdistill.records.structs import (
    Candidate,
    Event,
    Example,
    Feedback,
    Impression,
    Item,
    LabelState,
    Origin,
    R,
    Ranking,
    Record,
    Scale,
    Value,
)
from recdistill.records.topics import DEAD_LETTERS, TOPICS
from recdistill.records.versions import newer
from recdistill.text import cut, escaped

__all__ = [
    "DEAD_LETTERS",
    "MAX_BYTES",
    "MAX_CANDIDATES",
    "MAX_FIELDS",
    "MAX_HISTORY",
    "MAX_ID",
    "MAX_TEXT",
    "MAX_TIME_US",
    "MAX_VALUES",
    "TOPICS",
    "Candidate",
    "Event",
    "Example",
    "Feedback",
    "Impression",
    "Invalid",
    "Item",
    "LabelState",
    "Origin",
    "R",
    "Ranking",
    "Record",
    "Scale",
    "Value",
    "check_history",
    "check_values",
    "decode",
    "encode",
    "encode_around",
    "key_of",
    "newer",
    "render",
    "to_json",
]

_MOST_REASON: Final = 401  # characters


def encode(record: Record) -> bytes:
    """Frames a record as protobuf.

    Raises:
        DataError: When the record breaks one of the rules in the header of this module.
    """
    kind = type(record)
    try:
        CHECKS[kind](record)
        value = codec.write(record)
    except _UNWRITABLE as problem:
        raise _refusal(kind, _one_line(problem)) from None
    if len(value) > MAX_BYTES:
        raise _refusal(kind, f"{len(value)} bytes, more than {MAX_BYTES}")
    return value


def encode_around(record: Ranking | Example, inner: bytes) -> bytes:
    """Frames a record whose impression or ranking was just decoded: that part is neither checked nor written again.

    Args:
        record: A ranking around an impression, or an example around a ranking, with that part as `decode` gave it.
        inner: The value that the part was decoded from. It is copied as it stands where it is framed as `encode` does.

    Returns:
        A value that decodes to the record; where `inner` came from `encode`, the very value that `encode` gives.

    Raises:
        DataError: When what is around that part breaks one of the rules.
    """
    try:
        if isinstance(record, Ranking):
            check_scores(record)
        else:
            check_labels(record)
        value = codec.write_around(record, inner)
    except _UNWRITABLE as problem:
        raise _refusal(type(record), _one_line(problem)) from None
    # A value from outside may hold more than the record, such as fields that nobody knows.
    return encode(record) if value is None or len(value) > MAX_BYTES else value


def decode(kind: type[R], value: bytes | None) -> R:
    """Reads one record, from framed protobuf or from JSON, and checks it.

    Args:
        kind: The record that the topic carries.
        value: The whole value of a message. The schema id of its frame is read past: there is no registry yet.

    Raises:
        DecodeError: For any bytes that are not a valid record of this kind; nothing else is ever raised.
    """
    try:
        if value is None:
            raise Invalid("there is no value (a tombstone)")
        if len(value) > MAX_BYTES:
            raise Invalid(f"{len(value)} bytes, more than {MAX_BYTES}")
        if value[:1] != b"{":
            record = codec.read(kind, value)
            CHECKS[kind](record)
            return record
        edge = msgspec.json.decode(value, type=kind)
        CHECKS[kind](edge)
        # Through the wire form, so that a number is rounded the same however the record came in.
        return codec.read(kind, codec.write(edge))
    except ProtobufError:
        raise DecodeError(f"not {_named(kind)}: the body is not this message of the schema") from None
    except (Invalid, msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as problem:
        raise DecodeError(f"not {_named(kind)}: {_one_line(problem)}") from None


_UNWRITABLE: Final = (Invalid, ValueError, TypeError, AttributeError, OverflowError)


def _refusal(kind: type[object], reason: str) -> DataError:
    return DataError(f"cannot write this {kind.__name__.lower()}: {reason}")


def _named(kind: type[object]) -> str:
    """A kind with its article."""
    name = kind.__name__.lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _one_line(problem: Exception) -> str:
    """A reason may quote what is in the record; nothing in it may break a line of a log or steer a terminal."""
    return cut(escaped(str(problem)), _MOST_REASON)


def to_json(record: Record) -> bytes:
    """The JSON form, which `decode` reads back."""
    return msgspec.json.encode(record)


def key_of(record: Record) -> bytes:
    """Key of a record on its topic: the item for items, the impression for all else."""
    match record:
        case Item(id=key) | Impression(id=key):
            return key.encode()
        case Feedback(impression_id=key):
            return key.encode()
        case Ranking(impression=impression):
            return impression.id.encode()
        case Example(ranking=ranking):
            return ranking.impression.id.encode()
    raise DataError(f"a {type(record).__name__} is not a record")

"""Bytes <-> items, impressions, rankings, feedback and examples. Only this room knows the wire form.

On a topic a value is protobuf (`schemas/records.proto`) in Confluent's frame. A value that starts with `{` is read as
JSON: it has the fields of the struct. A record is checked when it is read and when it is written:

- ids are 1 to 512 characters without NUL; the candidates of one list differ, and none of them is in `exclude`;
- numbers are finite and fit the 32-bit floats of the schema; scores, values, labels and probabilities have narrower
  bounds; labels are at least 0; each candidate has one score and one label;
- times are microseconds since the epoch up to the year 9999, 0 where unknown; a history has its oldest event first, and
  no event later than its impression;
- lists, texts and whole records have a largest size (`recdistill.limits`). A record that is written must leave room for
  what the next stages add to it.

It knows nothing of logs, features or which items exist.

Example:
    >>> impression = Impression("r1", 5, candidates=(Candidate("a"), Candidate("b")))
    >>> ranking = Ranking(impression, "bst", "3", "logit", (1.5, 0.0), (True, False))
    >>> decode(Ranking, encode(ranking)) == ranking
    True
    >>> decode(Item, b'{"id": "a", "attributes": {"genres": ["drama", "war"], "year": 1994}}').attributes["year"]
    1994.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from google.protobuf.message import DecodeError as ProtobufError

from recdistill.errors import DataError, DecodeError
from recdistill.limits import (
    MAX_BYTES,
    MAX_CANDIDATES,
    MAX_EXCLUDE,
    MAX_FIELDS,
    MAX_HISTORY,
    MAX_ID,
    MAX_JSON,
    MAX_LABEL,
    MAX_SCORE,
    MAX_TEXT,
    MAX_TIME_US,
    MAX_VALUE,
    MAX_VALUES,
    room_of,
    room_of_ranking,
)
from recdistill.records import asked, carried, codec, columns, heads
from recdistill.records.checks import (
    CHECKS,
    Invalid,
    check_history,
    check_labels,
    check_scores,
    check_values,
)
from recdistill.records.columns import Columns, Read
from recdistill.records.encoded import Encoded, encoded
from recdistill.records.flat import Ids
from recdistill.records.framing import frame, place_of, schema_of
from recdistill.records.heads import Head, example_around
from recdistill.records.peek import may_be_served, may_have_label
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
from recdistill.records.topics import DEAD_LETTERS, TOPIC_OF, TOPICS
from recdistill.records.versions import TOMBSTONE, newer
from recdistill.text import cut, escaped

__all__ = [
    "DEAD_LETTERS",
    "MAX_BYTES",
    "MAX_CANDIDATES",
    "MAX_EXCLUDE",
    "MAX_FIELDS",
    "MAX_HISTORY",
    "MAX_ID",
    "MAX_LABEL",
    "MAX_SCORE",
    "MAX_TEXT",
    "MAX_TIME_US",
    "MAX_VALUE",
    "MAX_VALUES",
    "TOPICS",
    "TOPIC_OF",
    "Candidate",
    "Columns",
    "Encoded",
    "Event",
    "Example",
    "Feedback",
    "Head",
    "Ids",
    "Impression",
    "Invalid",
    "Item",
    "LabelState",
    "Origin",
    "R",
    "Ranking",
    "Read",
    "Record",
    "Scale",
    "Value",
    "check_history",
    "check_values",
    "decode",
    "decode_item",
    "encode",
    "encode_again",
    "encode_around",
    "encoded",
    "example_around",
    "frame",
    "key_of",
    "may_be_served",
    "may_have_label",
    "newer",
    "place_of",
    "read_columns",
    "read_heads",
    "read_impressions",
    "render",
    "schema_of",
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
    _check_room(record, value)
    return value


def encode_around(record: Ranking | Example, inner: bytes) -> bytes:
    """Frames a record whose impression or ranking was just decoded. That part is not checked and not written again.

    Args:
        record: A ranking around an impression, or an example around a ranking, with that part as `decode` gave it.
        inner: The value that the part was decoded from. Its bytes are copied if it has the frame of `encode`.

    Returns:
        A value that decodes to the record. If `inner` came from `encode`, it is equal to `encode(record)`.

    Raises:
        DataError: When a field outside of that part breaks one of the rules.
    """
    try:
        if isinstance(record, Ranking):
            check_scores(record)
        else:
            check_labels(record)
        value = codec.write_around(record, inner)
    except _UNWRITABLE as problem:
        raise _refusal(type(record), _one_line(problem)) from None
    if value is None:
        return encode(record)
    try:
        _check_room(record, value)
    except DataError:
        # A value from outside may hold more than the record. What says nothing is left out; a field of a newer version
        # says something.
        if codec.with_unknown(Impression if isinstance(record, Ranking) else Ranking, inner) is not None:
            raise
        return encode(record)
    return value


def encode_again(record: Record, value: bytes | None, before: bytes | None) -> bytes:
    """Frames a record that was just decoded, and is passed on. What a newer writer had put into it stays.

    Args:
        record: The record.
        value: The value that it was decoded from.
        before: What it was before a person changed it, whole; None where that is not known.

    Raises:
        DataError: A log cannot take it, or a change would drop a field of a newer version.
    """
    asis = None if value is None else carried.again(record, value)
    whole = asis if asis is not None or before == value else carried.changed(record, before)
    if whole is None:
        return encode(record)
    _check_room(record, whole)
    return whole


def _check_room(record: Record, value: bytes) -> None:
    """Checks that a message can hold the record, and that the next stages can still add what they add."""
    size, room, count = len(value) + len(key_of(record)), MAX_BYTES, 0
    if isinstance(record, Impression):
        count = len(record.candidates)
        room = room_of(count)
    elif isinstance(record, Ranking):
        count = len(record.impression.candidates)
        room = room_of_ranking(count)
    if size <= room:
        return
    if room == MAX_BYTES:
        raise _refusal(type(record), f"{size:,} bytes with its key, more than the {MAX_BYTES:,} that a log takes")
    raise _refusal(
        type(record),
        f"{size:,} bytes with its key, more than {room:,}: a log takes {MAX_BYTES:,}, and the scores and labels of "
        f"{count:,} candidates need the rest; send fewer candidates or a shorter history",
    )


def decode(kind: type[R], value: bytes | None) -> R:
    """Reads one record, from framed protobuf or from JSON, and checks it.

    Args:
        kind: The record that the topic carries.
        value: The whole value of a message. The schema id of its frame is ignored: there is no schema registry yet.

    Raises:
        DecodeError: For any bytes that are not a valid record of this kind. No other error is raised.
    """
    try:
        if value is None:
            raise Invalid("there is no value (a tombstone)")
        most = MAX_JSON if value[:1] == b"{" else MAX_BYTES
        if len(value) > most:
            raise Invalid(f"{len(value):,} bytes, more than {most:,}")
        if most == MAX_BYTES:
            record = codec.read(kind, value)
            CHECKS[kind](record)
            return record
        edge = msgspec.json.decode(value, type=kind)
        CHECKS[kind](edge)
        # Go through the wire form too, so a number is rounded in the same way from JSON and from protobuf.
        return codec.read(kind, codec.write(edge))
    except ProtobufError:
        raise DecodeError(f"not {_named(kind)}: the body is not this message of the schema") from None
    except (Invalid, msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as problem:
        raise DecodeError(f"not {_named(kind)}: {_one_line(problem)}") from None


def read_heads(values: Sequence[bytes | None]) -> list[Head | DecodeError]:
    """Reads and checks many rankings, and gives of each the little that the joiner must know.

    Args:
        values: Whole values of messages.

    Returns:
        One for each value: its head, or why `decode` refuses it.
    """
    return heads.read(values, decode=decode)


def read_impressions(values: Sequence[bytes | None]) -> list[Impression | DecodeError]:
    """Reads and checks many impressions at once, faster than `decode`.

    Args:
        values: Whole values of messages.

    Returns:
        One for each value: what `decode` gives, or why it refuses it.
    """
    return asked.read(values, decode=decode)


_UNWRITABLE: Final = (Invalid, ValueError, TypeError, AttributeError, OverflowError)


def decode_item(key: bytes | None, value: bytes | None) -> Item:
    """Reads a message of `items`: a record, or a tombstone, which withdraws the item that is its key.

    A compacted topic deletes an item by a tombstone: a key without a value.

    Raises:
        DecodeError: It is neither.
    """
    if value is not None or key is None:
        return decode(Item, value)
    try:
        item = Item(key.decode(), withdrawn=True)
        CHECKS[Item](item)
    except (UnicodeDecodeError, Invalid) as problem:
        raise DecodeError(f"not an item: the key of a tombstone: {_one_line(problem)}") from None
    return msgspec.structs.replace(item, version=TOMBSTONE)


def read_columns(kind: type[Ranking | Example], values: Sequence[bytes | None]) -> Read:
    """Reads and checks many values at once, several times faster than `decode`.

    Args:
        kind: The record that the topic carries.
        values: Whole values of messages.

    Returns:
        The valid ones in their order, as columns; and by its place among the values, why each of the others is refused.
        Both are as `decode` of each value alone.
    """
    return columns.read(kind, values, decode=decode)


def _refusal(kind: type[object], reason: str) -> DataError:
    return DataError(f"cannot write this {kind.__name__.lower()}: {reason}")


def _named(kind: type[object]) -> str:
    """A kind with its article."""
    name = kind.__name__.lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _one_line(problem: Exception) -> str:
    """Makes a reason one line. It may quote text of the record, which must not break a line or control a terminal."""
    return cut(escaped(str(problem)), _MOST_REASON)


def to_json(record: Record) -> bytes:
    """The JSON form, which `decode` reads back."""
    return msgspec.json.encode(record)


def key_of(record: Record) -> bytes:
    """Key of a record on its topic: the item for items, the impression for all other records."""
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

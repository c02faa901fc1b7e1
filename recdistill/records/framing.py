"""Confluent's frame: 0x00, the schema id in four bytes, and before protobuf the place of the message in its file.

The place is a count, and so many indexes, as zigzag varints. A count of 0 is short for the one index 0.

It knows nothing of records, or of what a schema says.

Example:
    >>> schema_of(bytes.fromhex("0000000007") + b"body")
    7
    >>> place_of(bytes.fromhex("00000000070404020a"), 5)  # count 2, index 2, index 1; then the body
    ([2, 1], 8)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recdistill.records.checks import Invalid

HEAD: Final = 5
"""Bytes before the body, or before the place of the message."""

_MOST_INDEXES: Final = 16


def schema_of(value: bytes) -> int:
    """The schema id of a framed value.

    Raises:
        Invalid: It has no frame.
    """
    if value[:1] != b"\x00":
        first = f"it starts with 0x{value[0]:02x}" if value else "it is empty"
        raise Invalid(f"{first}, not with the framing byte 0x00 or the `{{` of JSON")
    if len(value) <= HEAD:
        raise Invalid(f"the frame is cut short after {len(value)} bytes")
    return int.from_bytes(value[1:HEAD], "big")


def place_of(value: bytes, at: int) -> tuple[list[int], int]:
    """The place of a message in its file, and where the body begins.

    Args:
        value: A framed value.
        at: Where the place begins.

    Raises:
        Invalid: It is cut short, or no place.
    """
    count, at = _zigzag(value, at)
    if count == 0:
        return [0], at
    if count > _MOST_INDEXES:
        raise Invalid(f"the frame has {count} message indexes, more than {_MOST_INDEXES}")
    indexes = []
    for _ in range(count):
        index, at = _zigzag(value, at)
        indexes.append(index)
    return indexes, at


def frame(indexes: Sequence[int], schema_id: int = 0) -> bytes:
    """What stands before a protobuf body. For the place `[0]` alone it is one 0 byte."""
    start = b"\x00" + schema_id.to_bytes(4, "big")
    if list(indexes) == [0]:
        return start + b"\x00"
    return start + b"".join(varint(number << 1) for number in (len(indexes), *indexes))  # zigzag of a number >= 0


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(value) or shift > 28:
            raise Invalid("the message indexes of the frame are cut short or too long")
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    number = (number >> 1) ^ -(number & 1)
    if number < 0:
        raise Invalid("the message indexes of the frame are negative")
    return number, at

r"""What a newer writer has put into a record stays when the record is passed on by somebody who does not know it.

A record that is passed on as it came keeps its bytes (`again`). Where a person has changed fields of it, the fields of
the newer version that stand beside them are added to what was changed (`changed`). Those inside of a part, such as in a
candidate, have no place there any more: then nothing is written, and this is said.

It knows nothing of logs or of dead letters.

Example:
    >>> from msgspec.structs import replace
    >>> from recdistill.records.structs import Feedback
    >>> one = Feedback("f", "i", "a", "click")
    >>> newer = codec.write(one) + b"\xfa\x07\x01x"  # field 127, a text
    >>> again(one, newer) == newer
    True
    >>> changed(replace(one, item="b"), newer).endswith(b"\xfa\x07\x01x")
    True
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError as ProtobufError

from recdistill._wire import records_pb2 as wire
from recdistill.errors import DataError
from recdistill.records import codec
from recdistill.records.checks import Invalid
from recdistill.records.structs import Record

_WIDTHS: Final = {1: 8, 5: 4}
"""Bytes of the forms of a field that have always as many."""


def again(record: Record, value: bytes) -> bytes | None:
    """The bytes of a record that is passed on as it came; None where `encode` writes all that there is.

    Args:
        record: What was decoded.
        value: The whole value that it was decoded from.
    """
    return codec.with_unknown(type(record), value)


def changed(record: Record, before: bytes | None) -> bytes | None:
    """The bytes of a record that a person has changed, with what a newer writer had put into it.

    Args:
        record: The record as it is now.
        before: The whole value that it was; None where that is not known.

    Returns:
        None where there was nothing that is not known here.

    Raises:
        DataError: There is, and it has no place in what was changed.
    """
    kind = type(record)
    try:
        whole = None if before is None else codec.with_unknown(kind, before)
    except (Invalid, ProtobufError):
        return None  # the record could not be read at all
    if whole is None:
        return None
    prefix = codec.prefix(kind)
    message = getattr(wire, kind.__name__).FromString(whole[len(prefix) :])
    size = message.ByteSize()
    message.DiscardUnknownFields()
    beside = _beside(whole[len(prefix) :], {field.number for field in message.DESCRIPTOR.fields})
    if size - message.ByteSize() != len(beside):
        raise DataError(
            "a newer version has put fields into a part of this record, and a change would drop them; send it as it "
            "is, change it where it comes from, or use that version"
        )
    return codec.write(record) + beside


def _beside(body: bytes, known: set[int]) -> bytes:
    """The fields of a message whose numbers are not known, as they came."""
    found, at = [], 0
    while at < len(body):
        start = at
        tag, at = _varint(body, at)
        form = tag & 7
        if form == 0:
            _, at = _varint(body, at)
        elif form == 2:
            length, at = _varint(body, at)
            at += length
        elif form in _WIDTHS:
            at += _WIDTHS[form]
        else:
            break  # a group; nobody has written one for many years
        if tag >> 3 not in known:
            found.append(body[start:at])
    return b"".join(found)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at

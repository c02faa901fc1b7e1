"""The checksum of a message in the embedded log: CRC-32 over its place, time, key, value and headers.

A disk, a copy or a faulty memory can change bytes of the file without a word. Kafka's records have a checksum too. A
message of an older version has none, and is not checked.

It knows nothing of SQLite.

Example:
    >>> sum_ = checksum(7, 0, b"key", b"value", None)
    >>> problem(7, 0, b"key", b"value", None, sum_), problem(7, 0, b"key", b"valve", None, sum_)
    (False, True)
    >>> problem(7, 0, b"key", b"anything", None, None)
    False
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

_pack = struct.Struct("<qqiii").pack


def checksum(offset: int, time_us: int, key: bytes | None, value: bytes | None, headers: bytes | None) -> int:
    """The checksum of one message."""
    lengths = [-1 if part is None else len(part) for part in (key, value, headers)]
    crc = zlib.crc32(_pack(offset, time_us, *lengths))
    for part in (key, value, headers):
        if part:
            crc = zlib.crc32(part, crc)
    return crc


def problem(offset: Any, time_us: Any, key: Any, value: Any, headers: Any, saved: Any) -> bool:
    """Whether what was read is not what was written. A damaged file may hold any type in any column."""
    try:
        return saved is not None and checksum(offset, time_us, key, value, headers) != saved
    except (struct.error, TypeError, OverflowError):
        return True

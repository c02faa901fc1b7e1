"""Reads records whose headers have names that are not UTF-8.

A header's name is bytes on the wire, and a producer in any language can write what it wants. The client (kafka-python
3.0.12, `DefaultRecordBatch._read_msg`) gives up on such a record, and on all behind it: whoever reads that partition
would stop there at each start. No record may stop a stage, so such a name is read with a mark in place of each byte
that cannot be.

It knows nothing of stages or of what a header means.

Example:
    >>> _Lenient("..café".encode("latin-1"))[2:].decode("utf-8")
    'caf�'
"""

from __future__ import annotations

from typing import Any, SupportsIndex

from kafka.record.default_records import DefaultRecordBatch

_read = DefaultRecordBatch._read_msg  # noqa: SLF001 - there is no public way


class _Lenient(bytes):
    """Bytes of which each part can be decoded."""

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found = super().__getitem__(key)
        return _Lenient(found) if isinstance(found, bytes) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def _read_msg(batch: Any) -> Any:
    """The next record of a batch. The client moves on in it only when it has read the whole record."""
    try:
        return _read(batch)
    except UnicodeDecodeError:
        batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001 - as above
        return _read(batch)


def read_any_name() -> None:
    """Lets the client of this process read any name of a header."""
    DefaultRecordBatch._read_msg = _read_msg  # noqa: SLF001 - as above

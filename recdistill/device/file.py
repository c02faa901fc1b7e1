"""The format of a device file: its metadata, its digest and its format number.

A device file is an ONNX model. After the graph come entries of metadata. The last entry is the digest of all bytes
before it, written as 64 digits. So a file can be checked with a hash function alone, before anything parses it. This
module encodes the entries itself, in protobuf's form. So neither writer nor reader needs the `onnx` package for them.

It knows nothing of graphs, bundles or sessions.

Example:
    >>> made = Made(content_hash="0" * 64, features="{}", items=3)
    >>> sealed = seal(b"", made.entries())
    >>> is_whole(sealed), is_whole(sealed[:-1] + b"?")
    (True, False)
    >>> Made.read(made.entries(), source="shop.onnx") == made
    True
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from recdistill.errors import BundleError
from recdistill.text import cut, printable

FORMAT: Final = "1"

_FORMAT_KEY: Final = "recdistill.format"
_CONTENT_KEY: Final = "recdistill.content_hash"
_FEATURES_KEY: Final = "recdistill.features"
_ITEMS_KEY: Final = "recdistill.items"
_DIGEST_KEY: Final = "recdistill.sha256"
_DIGITS: Final = 64

# Protobuf writes a field as its tag (number × 8 + 2 for bytes), the length and the bytes.
_ENTRY: Final = b"\x72"  # ModelProto.metadata_props = 14
_KEY, _VALUE = b"\x0a", b"\x12"  # StringStringEntryProto.key = 1, .value = 2


@dataclass(frozen=True)
class Made:
    """The metadata of a device file.

    Args:
        content_hash: Content hash of the bundle that it was made from.
        features: The feature specification, as JSON.
        items: How many items it can answer with.
    """

    content_hash: str
    features: str
    items: int

    def entries(self) -> dict[str, str]:
        """These values as metadata entries."""
        return {
            _FORMAT_KEY: FORMAT,
            _CONTENT_KEY: self.content_hash,
            _FEATURES_KEY: self.features,
            _ITEMS_KEY: str(self.items),
        }

    @classmethod
    def read(cls, entries: Mapping[str, str], *, source: str) -> Made:
        """Reads the values from metadata entries.

        Raises:
            BundleError: The file has another format, or an entry is missing or cannot be right.
        """
        stated = entries.get(_FORMAT_KEY, "none")
        if stated != FORMAT:
            stated = cut(printable(stated), 40)
            raise BundleError(f"{source}: has device format {stated}, this version reads {FORMAT}; export it again")
        try:
            made = cls(entries[_CONTENT_KEY], entries[_FEATURES_KEY], _count(entries[_ITEMS_KEY]))
            if not re.fullmatch("[0-9a-f]{64}", made.content_hash):
                raise ValueError(f"{_CONTENT_KEY} is no SHA-256 in hexadecimal")
            return made
        except (KeyError, ValueError) as e:
            raise BundleError(f"{source}: does not say what it was made of ({e}); export it again") from e


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError(f"{_ITEMS_KEY} is no number of items")
    return int(text)


def seal(model: bytes, entries: Mapping[str, str]) -> bytes:
    """A model with metadata entries. The last entry is the digest of all bytes before it."""
    body = model + b"".join(_entry(key, value) for key, value in sorted(entries.items()))
    body += _entry(_DIGEST_KEY, "0" * _DIGITS)[:-_DIGITS]
    return body + _digest(body)


def is_whole(model: bytes) -> bool:
    """Whether the last bytes are the digest of all others."""
    return model[-_DIGITS:] == _digest(memoryview(model)[:-_DIGITS])


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _entry(key: str, value: str) -> bytes:
    """One entry as protobuf writes it. It may follow a model, because protobuf reads joined messages as one."""
    inner = _field(_KEY, key.encode()) + _field(_VALUE, value.encode())
    return _field(_ENTRY, inner)


def _field(tag: bytes, data: bytes) -> bytes:
    length, out = len(data), bytearray()
    while length > 0x7F:  # seven bits in each byte, the lowest bits first; the top bit says that more bytes follow
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return tag + bytes(out) + data

"""What a manifest says of one file, and the JSON that a digest can be taken of.

It knows nothing of folders.

Example:
    >>> canonical({"b": 1, "a": [0.5]})
    b'{"a":[0.5],"b":1}'
    >>> entry_of(b"hello").size
    5
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import DataError, RecdistillError

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal.")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
NAME: Final = re.compile("^[a-z0-9_][a-z0-9_-]{0,59}[.][a-z0-9]{1,12}$")
FileName = Annotated[str, Meta(pattern=NAME.pattern)]
"""A plain name. It cannot lead out of the folder, and it cannot be hidden."""


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes and digest of one file."""

    size: Count
    sha256: Sha256


def entry_of(data: bytes) -> FileEntry:
    """The entry of a file with these bytes."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def canonical(value: Any, *, error: type[RecdistillError] = DataError) -> bytes:
    """Canonical JSON: keys in order, no spaces, UTF-8. Equal values have equal bytes.

    Args:
        value: Anything that has a JSON form.
        error: What is raised when it has none.
    """
    try:
        return msgspec.json.encode(value, order="sorted")
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise error(f"cannot be written as JSON: {e}") from e


def digest(value: Any, *, error: type[RecdistillError] = DataError) -> str:
    """SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(value, error=error)).hexdigest()

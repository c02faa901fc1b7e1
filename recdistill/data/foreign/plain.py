"""JSON messages, with or without Confluent's frame before them.

It knows nothing of schemas: a JSON schema says what is allowed, and the mapping says what is needed.

Example:
    >>> read_json(b'{"a": 1}'), read_json(bytes.fromhex("0000000007") + b'{"a": 1}')
    ({'a': 1}, {'a': 1})
"""

from __future__ import annotations

from typing import Any

import msgspec

from recdistill.errors import DecodeError
from recdistill.records import schema_of

_HEAD = 5


def read_json(value: bytes) -> dict[str, Any]:
    """The object of a message.

    Raises:
        DecodeError: It is no JSON object.
    """
    if value[:1] == b"\x00":
        schema_of(value)
        value = value[_HEAD:]
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise DecodeError(f"is not JSON: {e}") from None
    if not isinstance(found, dict):
        raise DecodeError(f"is JSON, but no object {{…}}: a {type(found).__name__}")
    return found

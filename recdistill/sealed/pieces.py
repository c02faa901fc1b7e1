"""Large content as pieces of bytes, so that no single call holds the interpreter for long while others want to work.

Both give the bytes that the library gives in one piece: `arrays` those of `safetensors.numpy.save`, `text` those of
`json.dumps`. The tests hold them against each other.

It knows nothing of what the arrays or the data mean.

Example:
    >>> b"".join(text({"b": [1, 2], "a": "x"}))
    b'{"a": "x", "b": [1, 2]}'
    >>> import safetensors.numpy
    >>> whole = b"".join(arrays({"w": np.zeros(2, np.float32)}))
    >>> safetensors.numpy.load(whole)["w"].tolist()
    [0.0, 0.0]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

_BYTES: Final = 4 << 20
_ENTRIES: Final = 10_000
"""Entries of a list that are written at once."""

_DTYPES: Final = {
    "<u8": "U64",
    "<i8": "I64",
    "<f8": "F64",
    "<f4": "F32",
    "<u4": "U32",
    "<i4": "I32",
    "<f2": "F16",
    "<u2": "U16",
    "<i2": "I16",
    "|i1": "I8",
    "|u1": "U8",
    "|b1": "BOOL",
}
"""The format's names, in the order in which it has the arrays."""


def arrays(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """Arrays in the safetensors format.

    Args:
        tensors: By name. A type that is not in the table above is written by the library, in one piece.
    """
    kinds = {name: value.dtype.str for name, value in tensors.items()}
    if not set(kinds.values()) <= _DTYPES.keys():
        from safetensors.numpy import save

        yield save({name: np.asarray(value, order="C") for name, value in tensors.items()})
        return
    order = list(_DTYPES)
    names = sorted(tensors, key=lambda name: (order.index(kinds[name]), name.encode()))
    head, at = {}, 0
    for name in names:
        value = tensors[name]
        head[name] = {
            "dtype": _DTYPES[kinds[name]],
            "shape": list(value.shape),
            "data_offsets": [at, at + value.nbytes],
        }
        at += value.nbytes
    written = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    yield len(written).to_bytes(8, "little") + written
    for name in names:
        yield from _body(tensors[name])


def _body(value: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in C order."""
    if not value.size:
        return
    rows = np.atleast_1d(value)
    each = max(1, _BYTES // (rows.nbytes // len(rows)))
    for start in range(0, len(rows), each):
        yield np.ascontiguousarray(rows[start : start + each]).reshape(-1).view(np.uint8).data


def text(value: Any) -> Iterator[bytes]:
    """Data as JSON: keys in order, UTF-8, no NaN.

    Raises:
        TypeError, ValueError: It has no such form.
    """
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        between = b"{"
        for key in sorted(value):
            yield between + _dumped(key) + b": "
            yield from text(value[key])
            between = b", "
        yield b"}" if value else b"{}"
    elif isinstance(value, list) and len(value) > _ENTRIES:
        between = b"["
        for start in range(0, len(value), _ENTRIES):
            yield between + _dumped(value[start : start + _ENTRIES])[1:-1]
            between = b", "
        yield b"]"
    else:
        yield _dumped(value)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()

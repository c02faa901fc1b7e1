"""Reads two facts from an ONNX file before it is loaded: its operator domains, and whether other files hold its data.

An ONNX file is a protobuf message. Only the few fields that matter here are read, from a buffer that is never copied.
All other fields are skipped by their length. The package `onnx` is only in the training installation. onnxruntime would
open the other files before it could be asked.

It knows nothing of what the graph computes.

Example:
    >>> inspect_model(b"not a model")
    Traceback (most recent call last):
    ValueError: is not an ONNX file
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST: Final = 64
"""Deepest graph within graphs. The bodies of If and Loop seldom go beyond three."""

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_FUNCTION_DOMAIN, _FUNCTION_NODES = 10, 7
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTES, _NODE_DOMAIN = 5, 7
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


class Contents(NamedTuple):
    """What was found."""

    domains: frozenset[str]
    """Domains of the operators that are used, except those that the file itself defines. "" is ONNX's own domain."""
    external: bool
    """Whether the data of a tensor is in another file."""


def inspect_model(model: bytes) -> Contents:
    """Finds the domains and whether there is external data.

    Raises:
        ValueError: These bytes are no ONNX file.
    """
    found: set[str] = set()
    defined: set[str] = set()
    external, graphs = False, 0
    try:
        for number, value in _fields(memoryview(model)):
            if number == _MODEL_FUNCTIONS:
                own = [bytes(one).decode() for field, one in _fields(_message(value)) if field == _FUNCTION_DOMAIN]
                defined.update(own)
                nodes = [_message(one) for field, one in _fields(_message(value)) if field == _FUNCTION_NODES]
                for node in nodes:
                    external |= _node(node, found, 0)
            elif number == _MODEL_GRAPH:
                graphs += 1
                external |= _graph(_message(value), found, 0)
    except (IndexError, UnicodeDecodeError, TypeError) as e:
        raise ValueError("is not an ONNX file") from e
    if not graphs:
        raise ValueError("is not an ONNX file")
    return Contents(frozenset(found - defined), external)


def _graph(graph: memoryview, domains: set[str], depth: int) -> bool:
    """Collects the domains of a graph's nodes. Returns whether a tensor of it is in another file."""
    if depth > _DEEPEST:
        raise ValueError(f"has graphs within graphs, deeper than {_DEEPEST}")
    external = False
    for number, value in _fields(graph):
        if number == _GRAPH_NODES:
            external |= _node(_message(value), domains, depth)
        elif number == _GRAPH_TENSORS:
            external |= _tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            external |= _sparse(_message(value))
    return external


def _node(node: memoryview, domains: set[str], depth: int) -> bool:
    domain, external = "", False
    for number, value in _fields(node):
        if number == _NODE_DOMAIN:
            domain = bytes(_message(value)).decode()
        elif number == _NODE_ATTRIBUTES:
            for field, one in _fields(_message(value)):
                if field in _ATTRIBUTE_TENSORS:
                    external |= _tensor(_message(one))
                elif field in _ATTRIBUTE_SPARSE:
                    external |= _sparse(_message(one))
                elif field in _ATTRIBUTE_GRAPHS:
                    external |= _graph(_message(one), domains, depth + 1)
    domains.add(domain)
    return external


def _sparse(tensor: memoryview) -> bool:
    return any(
        _tensor(_message(value)) for number, value in _fields(tensor) if number in (_SPARSE_VALUES, _SPARSE_INDICES)
    )


def _tensor(tensor: memoryview) -> bool:
    return any(
        number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value == 1) for number, value in _fields(tensor)
    )


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where a message should be")
    return value


def _fields(buffer: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: their numbers, and their bytes or integers. Fixed-size fields are skipped."""
    at, end = 0, len(buffer)
    while at < end:
        tag, at = _varint(buffer, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(buffer, at)
            yield tag >> 3, value
        elif kind == _BYTES:
            length, at = _varint(buffer, at)
            if at + length > end:
                raise IndexError("a field that goes beyond its message")
            yield tag >> 3, buffer[at : at + length]
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError("an unknown kind of field")


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")

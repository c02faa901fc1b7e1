"""Values inside of values, by dotted names: `user.id`, `slots.sku`, `slots.0.sku`.

A name that a row has as it stands comes before a path. A path that goes through a list gives one value for each member
of the list, in its order, and None for a member without one. A number takes one member.

It knows nothing of records or mappings.

Example:
    >>> row = {"user": {"id": 7}, "slots": [{"sku": "a", "p": 0.5}, {"sku": "b"}], "a.b": 1}
    >>> [at(row, name) for name in ("user.id", "slots.sku", "slots.p", "slots.1.sku", "a.b", "user.name")]
    [7, ['a', 'b'], [0.5, None], 'b', 1, None]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def at(row: Mapping[str, Any], name: str) -> Any:
    """The value of a name; None where there is none."""
    if name in row:
        return row[name]
    return _walk(row, name.split(".")) if "." in name else None


def first_at(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of some names that has one."""
    for name in names:
        value = at(row, name)
        if value is not None:
            return value
    return None


def root(name: str) -> str:
    """The part of a path that a row itself has."""
    return name.partition(".")[0]


def _walk(value: Any, parts: Sequence[str]) -> Any:
    if not parts:
        return value
    if isinstance(value, Mapping):
        for n in range(1, len(parts) + 1):  # a key may hold dots itself
            key = ".".join(parts[:n])
            if key in value:
                return _walk(value[key], parts[n:])
        return None
    if isinstance(value, list | tuple):
        if parts[0].isdecimal():
            number = int(parts[0])
            return _walk(value[number], parts[1:]) if number < len(value) else None
        found: list[Any] = []
        for member in value:
            inside = _walk(member, parts)
            if isinstance(inside, list | tuple):
                found.extend(inside)
            else:
                found.append(inside)
        return found
    return None

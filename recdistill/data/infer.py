"""Items and requests -> a feature specification, guessed from the values that they hold.

A guess is a start: `recdistill init` writes it with comments, for a person to read and change.

It knows nothing of tables or logs.

Example:
    >>> items = [Item(name, attributes={"genre": "war", "year": 1994.0}) for name in "ab"]
    >>> spec = infer_specification(items, actions=["buy"])
    >>> {name: field.kind for name, field in spec.item.items()}, spec.history.actions
    ({'genre': 'category', 'year': 'number'}, ('buy',))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.records import Item, Value

CLOCK: Mapping[str, Field] = {
    "hour": Field(kind="category", capacity=24, hashed=0, max_values=1),
    "weekday": Field(kind="category", capacity=7, hashed=0, max_values=1),
}
"""The context of lists that are made from events: `recdistill.data.interactions.clock`."""

_WORDY = 0.5
"""A text attribute with more different values than this share of the items is text, not a category."""

_LARGE = 1e100
"""Numbers beyond this one are measured in units of the largest: their squares would be infinite."""

_EQUAL = 1e-12
"""Numbers that differ by less than this share of the largest are equal: so much comes of rounding their mean."""


def infer_specification(
    items: Sequence[Item],
    *,
    actions: Iterable[str],
    history: int = 50,
    context: Mapping[str, Field] = CLOCK,
    least: int = 0,
) -> FeatureSpec:
    """A specification from the attributes' values: lists of texts, and texts that repeat, are categories.

    A text attribute repeats if it has at most half as many values as items have it. Otherwise it is text. Attributes
    whose values have no one kind are left out.

    Args:
        items: The catalogue.
        actions: What users do: the actions that get a row of their own.
        history: Events of a history that count.
        context: The fields of a request. By default hour and weekday.
        least: Fewest items that there will be, where more are coming than `items` has.
    """
    return FeatureSpec(
        history=HistorySpec(length=history, actions=tuple(actions)),
        id=IdSpec(capacity=max(1024, 2 * max(least, len(items)))),
        item=fields_of([item.attributes for item in items]),
        context=dict(context),
    )


def fields_of(values: Iterable[Mapping[str, Value]], *, context: bool = False) -> dict[str, Field]:
    """A field for each name, by the values that it has.

    Args:
        values: Attributes of items, or contexts of requests.
        context: Whether they are contexts. A device cannot hash words, so a text is a category there.
    """
    columns: dict[str, list[Any]] = {}
    for one in values:
        for name, value in one.items():
            columns.setdefault(name, []).append(value)
    found = {name: _field(column, context) for name, column in columns.items()}
    return {name: field for name, field in found.items() if field is not None}


def _field(values: list[Any], context: bool) -> Field | None:
    values = [value for value in values if value != []]
    if not values:
        return None
    first = values[0]
    if any(_sort(value) != _sort(first) for value in values):
        return None
    if _sort(first) == "numbers":
        sizes = {len(value) for value in values}
        return Field(kind="vector", size=sizes.pop()) if len(sizes) == 1 else None
    if _sort(first) == "number":
        return _number(np.array(values, np.float64))
    distinct = {text for value in values for text in (value if isinstance(value, list) else [str(value)])}
    if isinstance(first, str) and not context and len(distinct) > len(values) * _WORDY:
        return Field(kind="text", capacity=4096)
    most = max(len(value) if isinstance(value, list) else 1 for value in values)
    capacity = max(16, 2 * len(distinct))
    if context:
        return Field(kind="category", capacity=capacity, hashed=0, max_values=min(most, 8))
    return Field(kind="category", capacity=capacity)


def _number(values: npt.NDArray[np.float64]) -> Field:
    most = float(np.abs(values).max())
    unit = most if most > _LARGE else 1.0
    mean, std = float((values / unit).mean()) * unit, float((values / unit).std()) * unit
    return Field(kind="number", mean=mean, std=std if std > _EQUAL * most else 1.0)


def _sort(value: Any) -> str:
    """Values of one sort can share a field."""
    if isinstance(value, list | tuple):
        return "texts" if isinstance(value[0], str) else "numbers"
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"

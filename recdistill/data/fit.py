"""Records -> the same records, with values of the kinds that a feature specification names.

A table of text has `3.50` where the specification says number, and Parquet has 7 where it says text. Both are meant. A
text that is no number is an error here, at the import: later, each such record would be refused one by one.

It knows nothing of tables.

Example:
    >>> from recdistill.features import Field
    >>> fit = Fit(FeatureSpec(item={"price": Field("number")}))
    >>> fit(Item("a", attributes={"price": "3.50"}), "line 2").attributes
    {'price': 3.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from recdistill.data.cells import as_number, as_text, says_nothing
from recdistill.errors import DataError
from recdistill.features import FeatureSpec, Field
from recdistill.records import Example, Feedback, Impression, Item, Ranking, Record, Value

R = TypeVar("R", bound=Record)


class Fit:
    """Makes values fit a specification.

    Args:
        spec: The specification. None: records stay as they are.
    """

    def __init__(self, spec: FeatureSpec | None) -> None:
        self._item = spec.item if spec else {}
        self._context = spec.context if spec else {}

    def __call__(self, record: R, where: str) -> R:
        """The record with values that fit.

        Args:
            record: Any record.
            where: Its place in the table, for the error.

        Raises:
            DataError: A text should be a number, and is none.
        """
        if isinstance(record, Item) and self._item:
            return _with(record, "attributes", _fitted(record.attributes, self._item, f"{where}: attributes"))
        if self._context and not isinstance(record, Item | Feedback):
            return self._asked(record, where)
        return record

    def _asked(self, record: R, where: str) -> R:
        if isinstance(record, Impression):
            return _with(record, "context", _fitted(record.context, self._context, f"{where}: context"))
        if isinstance(record, Ranking):
            return _with(record, "impression", self._asked(record.impression, where))
        if isinstance(record, Example):
            return _with(record, "ranking", self._asked(record.ranking, where))
        return record


def _with(record: R, name: str, value: object) -> R:
    return record if getattr(record, name) is value else msgspec.structs.replace(record, **{name: value})


def _fitted(values: dict[str, Value], fields: Mapping[str, Field], where: str) -> dict[str, Value]:
    """The values, or the same object if all fit already."""
    changed: dict[str, Value | None] = {}
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            continue
        new = _value(field, value, f"{where}.{name}")
        if new is not value:
            changed[name] = new
    if not changed:
        return values
    return {name: value for name, value in {**values, **changed}.items() if value is not None}


def _value(field: Field, value: Value, where: str) -> Value | None:
    if field.kind == "number" and isinstance(value, str):
        return None if says_nothing(value, "number", None) else _number(value, where, "a number")
    if field.kind == "vector" and isinstance(value, list) and any(isinstance(one, str) for one in value):
        return [_number(one, where, "a list of numbers") for one in value]
    if field.kind == "text" and isinstance(value, int | float) and not isinstance(value, bool):
        return as_text(value)
    return value


def _number(text: object, where: str, wanted: str) -> float:
    try:
        return as_number(text)
    except ValueError:
        raise DataError(
            f"{where}: is {str(text)[:40]!r}, but the feature specification says {wanted}; "
            "mend the table, or the kind there"
        ) from None

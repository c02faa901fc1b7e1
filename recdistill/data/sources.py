"""A mapping and the columns of a table -> where each field of a record comes from.

All that can be checked without a row is checked here, once. It knows nothing of rows and cells.

Example:
    >>> sources = Sources("t.csv", "items", TableMapping(columns={"id": "sku"}), ("sku", "attributes.colour"), None)
    >>> sources.fields["id"].column, list(sources.named)
    ('sku', ['colour'])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from recdistill.data.columns import Seen, atomic
from recdistill.data.mapping import FIELDS, SIDE, Column, TableMapping, as_column, nearest
from recdistill.data.paths import first_at, root
from recdistill.data.shape import Shape
from recdistill.errors import ConfigError

_SEPARATORS = {"json": "as lists in brackets", " ": "split at blanks"}


class Source(NamedTuple):
    """Where a field comes from: a column, or else a constant.

    Attributes:
        column: Name of the column, for messages; None: a constant.
        unit: Of times.
        separator: Between members of lists.
        constant: What holds for every row.
        names: The column's name, and its other names.
    """

    column: str | None
    unit: str
    separator: str = "|"
    constant: Any = None
    names: tuple[str, ...] = ()

    def cell(self, row: Mapping[str, Any]) -> Any:
        """The cell of a row; None where it has none."""
        return self.constant if self.column is None else first_at(row, self.names)


class Sources:
    """Where the fields of a record come from.

    Args:
        table: Name of the table, for messages.
        kind: What its rows are.
        mapping: What the user says.
        columns: Names of the columns of every row; None where each row names its own.
        shape: What was guessed, if anything.
        unit: Unit of times of which nothing is said or guessed.
        implied: Whether a column with the name of a field is that field, where the mapping does not say it.

    Attributes:
        fields: The source of each field that the table has.
        named: The columns of attributes or context values.

    Raises:
        ConfigError: The mapping does not fit the kind or the table.
    """

    def __init__(
        self,
        table: str,
        kind: str,
        mapping: TableMapping,
        columns: tuple[str, ...] | None,
        shape: Shape | None,
        *,
        unit: str = "s",
        implied: bool = True,
    ) -> None:
        self._unit, self._implied = unit, implied
        self._table, self._kind, self._mapping, self._columns, self._shape = table, kind, mapping, columns, shape
        fields = FIELDS[kind]
        for name in (*mapping.columns, *mapping.constants):
            if name not in fields:
                raise ConfigError(f"mapping of {table}: {kind} have no field {name!r}; {nearest(name, fields)}")
        self.fields: dict[str, Source] = {}
        for name, wanted in fields.items():
            source = self._source(name)
            if source is not None:
                self.fields[name] = source
            elif wanted.required:
                hint = self._hint() or f'map another one ([columns] {name} = "…") or give a constant'
                raise ConfigError(f"{table}: has no column {name!r}, which {kind} need; {hint}")
        for side in ("attributes", "context"):
            if getattr(mapping, side) and SIDE.get(kind) != side:
                raise ConfigError(f"mapping of {table}: {kind} have no [{side}]; leave it out")
        self.named = self._named_values()

    def said(self) -> str:
        """The guesses about its columns that the reader goes by: units of times, and separators of lists."""
        parts = []
        for name, source in self.fields.items():
            kind = FIELDS[self._kind][name].kind
            if source.column is None or self._shape is None:
                continue
            if kind in ("time", "times") and not self._given(name, "unit"):
                parts.append(f"{name} in {source.unit}" if "%" not in source.unit else f"{name} as {source.unit}")
            seen = self._shape.column(source.column)
            if kind in ("texts", "numbers", "times") and not self._given(name, "separator") and seen and seen.if_list:
                parts.append(f"{name} {_SEPARATORS.get(source.separator, f'split at {source.separator!r}')}")
        return ", ".join(parts)

    def _source(self, name: str) -> Source | None:
        mapping = self._mapping
        if name in mapping.columns:
            if name in mapping.constants:
                raise ConfigError(f"mapping of {self._table}: {name} has both a column and a constant; leave one out")
            column = as_column(mapping.columns[name])
            if column.type is not None:
                raise ConfigError(
                    f"mapping of {self._table}: columns.{name}.type: the field's type is known; leave it out"
                )
            column = self._settled(column, f"columns.{name}", ids=True)
            return self._of(column)
        if name in mapping.constants:
            return Source(None, self._unit, mapping.list_separator or "|", constant=mapping.constants[name])
        if not self._implied or (self._columns is not None and name not in self._columns):
            return None
        return self._of(self._settled(Column(name), name, ids=True))

    def _of(self, column: Column) -> Source:
        names = (column.column, *column.also)
        return Source(column.column, column.unit or self._unit, column.separator or "|", names=names)

    def _named_values(self) -> dict[str, Column]:
        side = SIDE.get(self._kind)
        if side is None:
            return {}
        named = {
            name: self._settled(as_column(column), f"{side}.{name}")
            for name, column in getattr(self._mapping, side).items()
        }
        for column_name in self._columns or ():
            if column_name.startswith(f"{side}."):
                named.setdefault(column_name.removeprefix(f"{side}."), self._settled(Column(column_name), column_name))
        return named

    def _settled(self, column: Column, key: str, *, ids: bool = False) -> Column:
        """The column by its plain name, with the unit and separator that the mapping gives, or else the guess."""
        also = column.also
        if self._columns is not None and also:
            there = [one for one in (column.column, *also) if root(one) in self._columns or one in self._columns]
            column = msgspec.structs.replace(column, column=(there or [column.column])[0])
            also = there[1:]
        name = self._there(column.column, key)
        seen = self._seen(name)
        separator = seen.if_list if ids else seen.separator
        return Column(
            column=name,
            also=also,
            unit=column.unit or seen.unit,
            type=column.type,
            separator=column.separator or self._mapping.list_separator or separator,
            labels=column.labels,
        )

    def _seen(self, name: str) -> Seen:
        return (self._shape and self._shape.column(name)) or Seen(name=name)

    def _given(self, name: str, what: Literal["unit", "separator"]) -> bool:
        """Whether the mapping sets the unit or the separator of a field."""
        if what == "separator" and self._mapping.list_separator is not None:
            return True
        column = self._mapping.columns.get(name)
        return isinstance(column, Column) and getattr(column, what) is not None

    def _there(self, column: str, key: str) -> str:
        if self._columns is None or column in self._columns or root(column) in self._columns:
            return column
        plain = atomic(column)
        if plain is not None and plain[0] in self._columns:
            return plain[0]
        raise ConfigError(
            f"mapping of {self._table}: {key}: the table has no column {column!r}; "
            f"{self._hint() or nearest(column, self._columns)}"
        )

    def _hint(self) -> str:
        """Why a column may be missing that is there: a wrong delimiter, or no header."""
        if self._columns and len(self._columns) == 1 and any(one in self._columns[0] for one in (*"\t,;|", "::", " ")):
            return f"it has one column only, {self._columns[0]!r}; set delimiter in the mapping"
        if self._shape and self._shape.kind == "text" and not self._shape.header and not self._shape.named:
            return (
                f"its first line looks like a row and no header, so its columns are "
                f"{nearest('', self._columns or ()).removeprefix('known are ')}; name them by number, "
                "or set header = true in the mapping"
            )
        return ""

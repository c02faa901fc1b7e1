"""The mapping of a table's columns to the fields of a record, and the reader that applies it.

The header of `recdistill.data.tables` shows a mapping file. This module knows rows as cells by column. It does not know
the files they come from.

Example:
    >>> from recdistill.data.rows import Row
    >>> reader = Reader("t.csv", "items", TableMapping(columns={"id": "sku"}), ("sku", "attributes.colour"))
    >>> reader.record(Row("t.csv, line 2", {"sku": "a1", "attributes.colour": "red"}, None)).attributes
    {'colour': 'red'}
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from recdistill.config import convert
from recdistill.data.cells import Kind, Unit, as_texts, as_time_us, as_value
from recdistill.data.rows import Row
from recdistill.data.shown import DEFAULT_ACTION, clicked_of, feedback_of, split_labels
from recdistill.errors import ConfigError, DataError
from recdistill.records import Candidate, Event, Feedback, Impression, Item, Record, encode
from recdistill.text import did_you_mean

TableKind = Literal["items", "impressions", "feedback", "interactions"]


class _Field(NamedTuple):
    kind: Literal["text", "number", "flag", "texts", "numbers", "time", "times"]
    required: bool = False


FIELDS: Mapping[str, Mapping[str, _Field]] = {
    "items": {
        "id": _Field("text", required=True),
        "version": _Field("number"),
        "withdrawn": _Field("flag"),
        "time": _Field("time"),
    },
    "impressions": {
        "id": _Field("text", required=True),
        "time": _Field("time", required=True),
        "user": _Field("text"),
        "history": _Field("texts"),
        "history_times": _Field("times"),
        "history_actions": _Field("texts"),
        "candidates": _Field("texts", required=True),
        "logged_scores": _Field("numbers"),
        "propensities": _Field("numbers"),
        "exclude": _Field("texts"),
        "clicked": _Field("texts"),
        "action": _Field("text"),
    },
    "feedback": {
        "id": _Field("text"),
        "impression_id": _Field("text", required=True),
        "item": _Field("text", required=True),
        "action": _Field("text", required=True),
        "value": _Field("number"),
        "time": _Field("time", required=True),
    },
    "interactions": {
        "user": _Field("text", required=True),
        "item": _Field("text", required=True),
        "time": _Field("time", required=True),
        "action": _Field("text"),
        "value": _Field("number"),
    },
}
_SIDE = {"items": "attributes", "impressions": "context"}  # where records of a kind hold values with free names


class Column(Struct, frozen=True, forbid_unknown_fields=True):
    """The column of a value.

    `unit` says how times are written. `type` is the type of attributes and context values. `labels` is for candidates
    that say whether they were clicked: with "-", `N1-0 N2-1` are N1 and N2, and N2 was clicked.
    """

    column: str
    unit: Unit = "s"
    type: Kind | None = None
    labels: str = ""


class TableMapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file; see the header of this module."""

    kind: TableKind | None = None
    columns: dict[str, str | Column] = {}
    constants: dict[str, str | float | bool] = {}
    attributes: dict[str, str | Column] = {}
    context: dict[str, str | Column] = {}
    list_separator: str = "|"
    delimiter: str = ","
    add_items: bool = False

    @classmethod
    def load(cls, path: Path | str) -> TableMapping:
        """Reads a mapping file.

        Raises:
            ConfigError: It cannot be read, or something in it does not fit.
        """
        path = Path(path)
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise ConfigError(f"{path}: cannot be read ({e.strerror})") from e
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise ConfigError(f"{path}: is not TOML: {e}") from e
        mapping = convert(tree, cls, source=str(path))
        if len(mapping.delimiter) != 1 or mapping.delimiter in '"\r\n':
            raise ConfigError(f"{path}: delimiter: must be one character, not {mapping.delimiter!r}")
        if not mapping.list_separator:
            raise ConfigError(f"{path}: list_separator: must not be empty")
        return mapping


class _Source(NamedTuple):
    """Where a field comes from: a column, or else a constant."""

    column: str | None
    unit: Unit
    constant: Any = None


class Reader:
    """Turns rows of one table into records of one kind. All checks that need no row are done once, at the start."""

    def __init__(self, table: str, kind: str, mapping: TableMapping, columns: tuple[str, ...] | None) -> None:
        self._table, self._kind, self._mapping, self._columns = table, kind, mapping, columns
        fields = FIELDS[kind]
        for name in (*mapping.columns, *mapping.constants):
            if name not in fields:
                raise ConfigError(f"mapping of {table}: {kind} have no field {name!r}; {nearest(name, fields)}")
        self._sources: dict[str, _Source] = {}
        for name, field in fields.items():
            source = self._source(name)
            if source is not None:
                self._sources[name] = source
            elif field.required:
                raise ConfigError(
                    f"{table}: has no column {name!r}, which {kind} need; "
                    f'map another one ([columns] {name} = "…") or give a constant'
                )
        for side in ("attributes", "context"):
            if getattr(mapping, side) and _SIDE.get(kind) != side:
                raise ConfigError(f"mapping of {table}: {kind} have no [{side}]; leave it out")
        self._named = self._named_values()
        candidates = mapping.columns.get("candidates")
        self._labels = candidates.labels if isinstance(candidates, Column) else ""
        self._tells_clicks = kind == "impressions" and bool(self._labels or "clicked" in self._sources)
        self._make: Callable[[Row], Record] = {
            "items": self._item, "impressions": self._impression, "feedback": self._feedback
        }.get(kind, self._item)  # fmt: skip

    def records(self, row: Row) -> list[Record]:
        """The records of one row, checked: one, and after a list the feedback that the list itself tells."""
        record = self.record(row)
        if not isinstance(record, Impression) or not self._tells_clicks:
            return [record]
        clicked, action = self._clicked(row, record)
        return [record, *feedback_of(record, clicked, action)]

    def record(self, row: Row) -> Record:
        """One record, checked."""
        record = self._make(row)
        try:
            encode(record)
        except DataError as e:
            problem = str(e).removeprefix(f"cannot write this {type(record).__name__.lower()}: ")
            raise DataError(f"{row.where}: {problem}") from None
        return record

    def fields(self, row: Row) -> dict[str, Any]:
        """The fields that the row has, by name. All required fields are there."""
        found: dict[str, Any] = {}
        for name, source in self._sources.items():
            cell = source.constant if source.column is None else row.cells.get(source.column)
            kind, required = FIELDS[self._kind][name]
            if cell is None or cell == "" or cell != cell:  # NaN is how some tables write "nothing"
                if required:
                    raise self.error(row, name, "is empty; every row needs a value")
                continue
            try:
                found[name] = self._convert(cell, kind, source.unit)
            except ValueError as e:
                raise self.error(row, name, str(e)) from None
        return found

    def error(self, row: Row, field: str, problem: str) -> DataError:
        """One sentence that names file, row and column. It also names the field if it has another name."""
        column = self._sources[field].column
        if column is None:
            return DataError(f"{row.where}, constant {field!r}: {problem}")
        return DataError(f"{row.where}, column {column!r}{'' if column == field else f' ({field})'}: {problem}")

    def _item(self, row: Row) -> Item:
        found = self.fields(row)
        version = found.get("version", 0.0)
        if version != int(version) or version < 0:
            raise self.error(row, "version", f"must be a whole number from 0 on, not {version:g}")
        return Item(
            id=found["id"],
            version=int(version),
            withdrawn=found.get("withdrawn", False),
            attributes=self._values(row),
            time_us=found.get("time", 0),
        )

    def _impression(self, row: Row) -> Impression:
        found = self.fields(row)
        history, candidates = found.get("history", []), self._split(row, found["candidates"])[0]
        times = self._beside(row, found, "history_times", len(history), 0)
        actions = self._beside(row, found, "history_actions", len(history), "")
        scores = self._beside(row, found, "logged_scores", len(candidates), None)
        chances = self._beside(row, found, "propensities", len(candidates), None)
        return Impression(
            id=found["id"],
            time_us=found["time"],
            user=found.get("user"),
            history=tuple(Event(*event) for event in zip(history, times, actions, strict=True)),
            context=self._values(row),
            candidates=tuple(Candidate(*one) for one in zip(candidates, scores, chances, strict=True)),
            exclude=tuple(found.get("exclude", ())),
        )

    def _clicked(self, row: Row, shown: Impression) -> tuple[list[str], str]:
        """Which candidates of a list were clicked, and what that is called."""
        found = self.fields(row)
        if self._labels:
            clicked = self._split(row, found["candidates"])[1]
        else:
            try:
                clicked = clicked_of(found.get("clicked", []), [one.item for one in shown.candidates])
            except ValueError as e:
                raise self.error(row, "clicked", str(e)) from None
        return clicked, found.get("action", DEFAULT_ACTION)

    def _split(self, row: Row, entries: list[str]) -> tuple[list[str], list[str]]:
        """Candidates, and which of them were clicked, where their cell says it."""
        if not self._labels:
            return entries, []
        try:
            return split_labels(entries, self._labels)
        except ValueError as e:
            raise self.error(row, "candidates", str(e)) from None

    def _feedback(self, row: Row) -> Feedback:
        found = self.fields(row)
        where = "/".join((found["impression_id"], found["item"], found["action"], str(found["time"])))
        return Feedback(
            id=found.get("id", where),
            impression_id=found["impression_id"],
            item=found["item"],
            action=found["action"],
            value=found.get("value", 1.0),
            time_us=found["time"],
        )

    def _beside(self, row: Row, found: Mapping[str, Any], name: str, count: int, absent: Any) -> list[Any]:
        """A list that belongs to another one, or `absent` for each of its entries."""
        values: list[Any] = found.get(name, [absent] * count)
        if name in found and self._sources[name].column is None and len(values) == 1:
            values = values * count  # a constant holds for each of them
        if len(values) != count:
            of = "history" if name.startswith("history") else "candidates"
            raise self.error(row, name, f"has {len(values)} values for {count} {of}; they must be as many")
        return values

    def _values(self, row: Row) -> dict[str, Any]:
        found = {}
        for name, source in self._named.items():
            cell = row.cells.get(source.column)
            if cell is None or cell == "" or cell != cell:
                continue
            try:
                found[name] = as_value(cell, source.type, self._mapping.list_separator)
            except ValueError as e:
                raise DataError(f"{row.where}, column {source.column!r} ({_SIDE[self._kind]}.{name}): {e}") from None
        return found

    def _convert(self, cell: Any, kind: str, unit: Unit) -> Any:
        separator = self._mapping.list_separator
        if kind == "time":
            return as_time_us(cell, unit)
        if kind == "times":
            return [as_time_us(one, unit) for one in as_texts(cell, separator)]
        return as_value(cell, kind, separator)  # type: ignore[arg-type]  # the kinds left are those of cells

    def _source(self, name: str) -> _Source | None:
        mapping = self._mapping
        if name in mapping.columns:
            if name in mapping.constants:
                raise ConfigError(f"mapping of {self._table}: {name} has both a column and a constant; leave one out")
            column = _column(mapping.columns[name])
            if column.type is not None:
                raise ConfigError(
                    f"mapping of {self._table}: columns.{name}.type: the field's type is known; leave it out"
                )
            return _Source(self._there(column.column, f"columns.{name}"), column.unit)
        if name in mapping.constants:
            return _Source(None, "s", mapping.constants[name])
        return _Source(name, "s") if self._columns is None or name in self._columns else None

    def _named_values(self) -> dict[str, Column]:
        side = _SIDE.get(self._kind)
        if side is None:
            return {}
        named = {name: _column(column) for name, column in getattr(self._mapping, side).items()}
        for name, column in named.items():
            self._there(column.column, f"{side}.{name}")
        for column_name in self._columns or ():
            if column_name.startswith(f"{side}."):
                named.setdefault(column_name.removeprefix(f"{side}."), Column(column_name))
        return named

    def _there(self, column: str, key: str) -> str:
        if self._columns is not None and column not in self._columns:
            raise ConfigError(
                f"mapping of {self._table}: {key}: the table has no column {column!r}; {nearest(column, self._columns)}"
            )
        return column


def _column(column: str | Column) -> Column:
    return Column(column) if isinstance(column, str) else column


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name that was probably meant, or all known names."""
    known = list(known)
    return did_you_mean(name, known, otherwise=f"known are {', '.join(known) or 'none'}")

"""Rows of a table -> records, as a mapping says.

It knows rows as cells by column. It does not know the files they come from.

Example:
    >>> from recdistill.data.rows import Row
    >>> reader = Reader("t.csv", "items", TableMapping(columns={"id": "sku"}), ("sku", "attributes.colour"))
    >>> reader.record(Row("t.csv, line 2", {"sku": "a1", "attributes.colour": "red"}, None)).attributes
    {'colour': 'red'}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from recdistill.data.cells import as_beside, as_number, as_text, as_time_us, as_value, as_whole, says_nothing
from recdistill.data.mapping import FIELDS, SIDE, Column, TableMapping, wanted_values
from recdistill.data.paths import at, first_at
from recdistill.data.rows import Row
from recdistill.data.shape import Shape
from recdistill.data.shown import DEFAULT_ACTION, clicked_of, feedback_id, feedback_of, split_labels
from recdistill.data.sources import Source, Sources
from recdistill.errors import DataError
from recdistill.records import Candidate, Event, Feedback, Impression, Item, Record, encode

_BESIDE: Mapping[str, Any] = {"history_times": 0, "history_actions": "", "logged_scores": None, "propensities": None}
"""Lists that stand beside another one, and what a member without a value is."""


class Reader:
    """Turns rows of one table into records of one kind. All checks that need no row are done once, at the start."""

    def __init__(
        self,
        table: str,
        kind: str,
        mapping: TableMapping,
        columns: tuple[str, ...] | None,
        shape: Shape | None = None,
        *,
        unit: str = "s",
        implied: bool = True,
    ) -> None:
        self._kind = kind
        self._sources = Sources(table, kind, mapping, columns, shape, unit=unit, implied=implied)
        self._only = wanted_values(mapping.only)
        self._missing = None if mapping.missing is None else tuple(mapping.missing)
        candidates = mapping.columns.get("candidates")
        self._labels = candidates.labels if isinstance(candidates, Column) else ""
        self._tells_clicks = kind == "impressions" and bool(self._labels or "clicked" in self._sources.fields)
        self._make: Callable[[Row], Record] = {
            "items": self._item, "impressions": self._impression, "feedback": self._feedback
        }.get(kind, self._item)  # fmt: skip

    def records(self, row: Row) -> Iterator[Record]:
        """The records of one row: one, and after a list the feedback that the list itself tells.

        They are not checked. Encode each one (`encode_row`) before you ask for the next one: it is made of the first.
        A row that the mapping's `only` leaves out has none.
        """
        if not self.wants(row):
            return
        record = self._make(row)
        yield record
        if isinstance(record, Impression) and self._tells_clicks:
            yield from feedback_of(record, *self._clicked(row, record))

    def wants(self, row: Row) -> bool:
        """Whether a row has the values that the mapping's `only` asks for."""
        return all(_is_one_of(at(row.cells, name), values) for name, values in self._only.items())

    def record(self, row: Row) -> Record:
        """The first record of a row, checked."""
        record = self._make(row)
        encode_row(record, row.where)
        return record

    def fields(self, row: Row) -> dict[str, Any]:
        """The fields that the row has, by name. All required fields are there."""
        found: dict[str, Any] = {}
        for name, source in self._sources.fields.items():
            cell = source.cell(row.cells)
            kind, required = FIELDS[self._kind][name]
            if says_nothing(cell, kind, self._missing):
                if required:
                    raise self.error(row, name, "is empty; every row needs a value")
                continue
            if isinstance(cell, str) and "\n" in cell:
                raise self.error(row, name, "holds a line end; is a quote not closed before it?")
            try:
                found[name] = self._convert(name, cell, kind, source)
            except ValueError as e:
                raise self.error(row, name, str(e)) from None
        return found

    def said(self) -> str:
        """The guesses about its columns that it goes by."""
        return self._sources.said()

    def error(self, row: Row, field: str, problem: str) -> DataError:
        """One sentence that names file, row and column. It also names the field if it has another name."""
        column = self._sources.fields[field].column
        if column is None:
            return DataError(f"{row.where}, constant {field!r}: {problem}")
        return DataError(f"{row.where}, column {column!r}{'' if column == field else f' ({field})'}: {problem}")

    def _item(self, row: Row) -> Item:
        found = self.fields(row)
        return Item(
            id=found["id"],
            version=found.get("version", 0),
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
            history=tuple(
                Event(item, time_us, action) for item, time_us, action in zip(history, times, actions, strict=True)
            ),
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
        said = found["impression_id"], found["item"], found["action"], str(found["time"])
        return Feedback(
            id=found["id"] if "id" in found else feedback_id(*said),
            impression_id=found["impression_id"],
            item=found["item"],
            action=found["action"],
            value=found.get("value", 1.0),
            time_us=found["time"],
        )

    def _beside(self, row: Row, found: Mapping[str, Any], name: str, count: int, absent: Any) -> list[Any]:
        """A list that belongs to another one, or `absent` for each of its entries."""
        values: list[Any] = found.get(name, [absent] * count)
        if name in found and self._sources.fields[name].column is None and len(values) == 1:
            values = values * count  # a constant holds for each of them
        if len(values) != count:
            of = "history" if name.startswith("history") else "candidates"
            raise self.error(row, name, f"has {len(values)} values for {count} {of}; they must be as many")
        return values

    def _values(self, row: Row) -> dict[str, Any]:
        found = {}
        for name, source in self._sources.named.items():
            cell = first_at(row.cells, (source.column, *source.also))
            if says_nothing(cell, source.type or "text", self._missing):
                continue
            try:
                found[name] = as_value(cell, source.type, source.separator or "|")
            except ValueError as e:
                raise DataError(f"{row.where}, column {source.column!r} ({SIDE[self._kind]}.{name}): {e}") from None
        return found

    def _convert(self, name: str, cell: Any, kind: str, source: Source) -> Any:
        if kind == "time":
            return as_time_us(cell, source.unit)
        if name == "version":
            return _version(cell)
        if name == "clicked" and isinstance(cell, list | tuple):  # a flag for each candidate
            cell = [str(one).lower() if isinstance(one, bool) else one for one in cell]
        if name not in _BESIDE:
            return as_value(cell, kind, source.separator)  # type: ignore[arg-type]  # the kinds left are those of cells
        read: Callable[[Any], Any] = {
            "times": lambda one: as_time_us(one, source.unit), "numbers": as_number, "texts": as_text
        }[kind]  # fmt: skip
        member = "text" if kind == "texts" else "number"
        return as_beside(
            cell, source.separator, read, lambda one: says_nothing(one, member, self._missing), _BESIDE[name]
        )


def _version(cell: Any) -> int:
    """A whole number. The time of a change grows with each change, so it is one too: its microseconds."""
    try:
        return as_whole(cell)
    except ValueError:
        try:
            return as_time_us(cell, "iso")
        except ValueError:
            pass
        raise


def _is_one_of(cell: Any, values: Sequence[Any]) -> bool:
    """Whether a cell is one of some values. In a table of text, numbers and flags are texts."""
    if isinstance(cell, str):
        text = cell.strip()
        return any(text == (one if isinstance(one, str) else json.dumps(one)) for one in values)
    return any(cell == one and isinstance(cell, bool) == isinstance(one, bool) for one in values)


def encode_row(record: Record, where: str) -> bytes:
    """Checks and encodes the record of a row.

    Args:
        record: The record.
        where: Place of the row, for the error.

    Raises:
        DataError: The record breaks a rule.
    """
    try:
        return encode(record)
    except DataError as e:
        problem = str(e).removeprefix(f"cannot write this {type(record).__name__.lower()}: ")
        raise DataError(f"{where}: {problem}") from None

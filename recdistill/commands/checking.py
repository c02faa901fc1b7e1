"""`import --check`: shows tables as they will be understood, and the joins that they will make. Writes nothing.

It knows nothing of how tables are read or counted (`recdistill.data`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Bar, show
from recdistill.errors import DataError, UsageError
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import mapping, survey, understood
    from recdistill.features import FeatureSpec

_CELL = 26
"""Characters of a cell that is shown."""


def check(
    args: argparse.Namespace, settings: Settings, columns: mapping.TableMapping | None, spec: FeatureSpec | None
) -> int:
    """Reads whole tables, as an import would, and shows what they are.

    Args:
        args: The call. Its tables may be of any kinds.
        settings: Everything.
        columns: The mapping of all of them, if somebody gave one.
        spec: What a model may see, if that is written already.
    """
    from recdistill.data import understood

    distinct(args.paths)
    tables = [understood.understand(path, kind=args.kind, mapping=columns) for path in args.paths]
    used = [table for table in tables if table.kind]
    if not used:
        raise DataError("; ".join(f"{table.path.name}: {table.why}" for table in tables))
    with Bar("check", args):
        found = read(settings, used, spec)
    shown = {
        "checked": sum(found.rows.values()),
        "tables": [as_json(table, found) for table in tables],
        "joins": found.figures(),
    }
    lines = [line for table in tables for line in (*as_text(table, found), "")]
    show(args, shown, "\n".join([*lines, *joins(found, settings.interactions.min_history), "", _END]))
    return 0


_END = "nothing was written"


def read(settings: Settings, tables: Sequence[understood.Understood], spec: FeatureSpec | None = None) -> survey.Survey:
    """Counts what is in tables and what they have in common."""
    from recdistill.data import survey

    bound = [table.bound() for table in tables]
    return survey.survey(bound, min_history=settings.interactions.min_history, spec=spec)


def distinct(paths: Sequence[Path]) -> None:
    """Refuses a table that is named twice: all of its rows would count twice.

    Raises:
        UsageError: One is.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is named twice; name each table once")
        seen.add(path.resolve())


def as_json(table: understood.Understood, found: survey.Survey) -> dict[str, Any]:
    """One table, for programs."""
    return {
        "path": str(table.path),
        "kind": table.kind or None,
        "why": table.why or None,
        "written": table.shape.sentence(),
        "rows": found.rows.get(str(table.path), 0),
        "first": [cells_of(one) for one in found.samples.get(str(table.path), [])],
    }


def as_text(table: understood.Understood, found: survey.Survey) -> list[str]:
    """One table, for people: what it is, and its first rows."""
    name = table.path.name
    if not table.kind:
        return [f"{name}: is of no use here: {table.why}"]
    rows = [cells_of(one) for one in found.samples.get(str(table.path), [])]
    heading = f"{name}: {found.rows.get(str(table.path), 0):,} rows are right, {table.kind} ({table.shape.sentence()})"
    return [heading, *grid(rows)]


def joins(found: survey.Survey, min_history: int) -> list[str]:
    """What the tables have in common, one sentence a line."""
    lines = []
    if found.items:
        twice = f", {found.twice:,} of them more than once (the last record holds)" if found.twice else ""
        lines.append(f"{len(found.items):,} items are described{twice}")
    if found.ids_named:
        lines.append(_described(found))
    if found.users:
        lines.append(f"{found.users:,} users, {_span(found.times_us)}")
    if found.lists:
        mean = found.candidates / found.lists
        lines.append(
            f"{found.lists:,} lists of {mean:,.1f} items on average; {found.without_history:,} have no history"
        )
        lines.append(f"{found.clicked:,} of the lists have feedback on one of their items")
    if found.strange_feedback:
        lines.append(f"{found.strange_feedback:,} of {found.feedback:,} feedback name a list that is in no table")
    if found.outside:
        lines.append(f"{found.outside:,} feedback are on an item that was not in their list")
    if found.events:
        lines.append(f"{found.events:,} events will make {found.made:,} lists; all of them will be in histories")
        if found.early:
            why = f"they are among the first {min_history} of their user (interactions.min_history)"
            lines.append(f"  {found.early:,} will make none: {why}")
        if found.repeated:
            lines.append(f"  {found.repeated:,} will make none: the user had had the item before")
    lines += [f"{name}: its rows are not in the order of time; they are sorted when they are written" for name in
              found.unsorted]  # fmt: skip
    return lines


def _described(found: survey.Survey) -> str:
    share = found.ids_described / found.ids_named
    line = f"{found.ids_named:,} different items are named; {found.ids_described:,} of them ({share:.1%}) are described"
    if found.missing:
        line += f"; not described: {', '.join(map(printable, found.missing))}" + (
            ", …" if found.ids_named - found.ids_described > len(found.missing) else ""
        )
    if found.items and not found.ids_described:
        line += ". The ids never meet: is the right column the id in both tables?"
    return line


def _span(times_us: Sequence[int]) -> str:
    from datetime import UTC, datetime

    if not times_us:
        return "no list"
    first, last = (
        datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M") for at in (times_us[0], times_us[-1])
    )
    return f"lists from {first} to {last} UTC"


def cells_of(record: Any) -> dict[str, str]:
    """A record as cells by field, for a person."""
    from recdistill.data import events
    from recdistill.records import Feedback, Impression, Item

    if isinstance(record, events.Choice):
        cells = {"user": record.user, "item": record.item, "action": record.action, "value": f"{record.value:g}"}
        return {**cells, "time": _time(record.time_us)}
    if isinstance(record, Item):
        return {"id": record.id, **{name: _shown(value) for name, value in record.attributes.items()}}
    if isinstance(record, Impression):
        return {
            "id": record.id,
            "time": _time(record.time_us),
            "user": record.user or "",
            "history": _some([event.item for event in record.history]),
            "candidates": _some([one.item for one in record.candidates]),
            **{name: _shown(value) for name, value in record.context.items()},
        }
    if isinstance(record, Feedback):
        cells = {"list": record.impression_id, "item": record.item, "action": record.action}
        return {**cells, "value": f"{record.value:g}", "time": _time(record.time_us)}
    raise TypeError(f"a {type(record).__name__} is in no table")


def _time(time_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S") if time_us else ""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return _some(value) if isinstance(value, list | tuple) else str(value)


def _some(values: Sequence[Any]) -> str:
    """How many there are, and the first ones."""
    return f"{len(values)}: {' '.join(map(_shown, values[:3]))}" if values else "0"


def grid(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Rows below their columns, each cell cut."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [names, *([row.get(name, "") for name in names] for row in rows)]
    cells = [[cut(printable(cell), _CELL) for cell in row] for row in table]
    widths = [max(len(row[n]) for row in cells) for n in range(len(names))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]

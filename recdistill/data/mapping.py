"""What a mapping file says: which column of a table is which field of a record. And which fields there are.

The header of `recdistill.data.tables` shows a mapping file. It knows nothing of rows and cells.

Example:
    >>> nearest("actoin", FIELDS["feedback"])
    "did you mean 'action'?"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

from recdistill.config import convert, read_toml
from recdistill.data.cells import UNITS, Kind
from recdistill.data.files import known_encoding
from recdistill.data.lines import single_line
from recdistill.data.shape import TableForm
from recdistill.errors import ConfigError
from recdistill.given import read_text
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
SIDE = {"items": "attributes", "impressions": "context"}  # where records of a kind hold values with free names


class Column(Struct, frozen=True, forbid_unknown_fields=True):
    """The column of a value.

    Attributes:
        column: Its name; its number, from "1" on, where the table has no header. Where cells hold objects, a path
            leads into them (`user.id`, `slots.sku`).
        also: Other names of it: older or newer ones. The first name that has a value counts.
        unit: How times are written: s, ms, us, ns, iso, or a format of `strptime` (`%d.%m.%Y %H:%M`). None: guessed.
        type: The type of attributes and context values.
        separator: Between the members of a list in one cell, or "json". None takes `list_separator`.
        labels: For candidates that say whether they were clicked: with "-", `N1-0 N2-1` are N1 and N2, and N2 was.
    """

    column: str
    also: list[str] = []
    unit: str | None = None
    type: Kind | None = None
    separator: str | None = None
    labels: str = ""


class TableMapping(TableForm, frozen=True, forbid_unknown_fields=True):
    """A mapping file; the header of `recdistill.data.tables` shows one.

    `add_items`: lists name items that no table describes. They become items without attributes.
    `only`: column -> the value, or a list of the values, that a row must have. Others are passed over.
    """

    kind: TableKind | None = None
    columns: dict[str, str | Column] = field(default_factory=dict)
    constants: dict[str, str | float | bool] = field(default_factory=dict)
    attributes: dict[str, str | Column] = field(default_factory=dict)
    context: dict[str, str | Column] = field(default_factory=dict)
    only: dict[str, Any] = field(default_factory=dict)
    add_items: bool = False

    @classmethod
    def load(cls, path: Path | str) -> TableMapping:
        """Reads a mapping file.

        Raises:
            ConfigError: It cannot be read, or something in it does not fit.
        """
        path = Path(path)
        return cls.parse(read_text(path, ConfigError, what="mappings", advice="give a mapping, a TOML file"), str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> TableMapping:
        """Reads the text of a mapping file.

        Args:
            text: The text.
            source: Where it is from, for the error.

        Raises:
            ConfigError: Something in it does not fit.
        """
        tree = read_toml(text, source)
        mapping = convert(tree, cls, source=source)
        if problem := _problem_of_form(mapping) or _problem_of_only(mapping.only):
            raise ConfigError(f"{source}: {problem}")
        for section in ("columns", "attributes", "context"):
            for name, column in getattr(mapping, section).items():
                if isinstance(column, Column) and (problem := _problem_of_column(column)):
                    raise ConfigError(f"{source}: {section}.{name}.{problem}")
        return mapping


def _problem_of_form(form: TableForm) -> str:
    delimiter, names = form.delimiter, form.header if isinstance(form.header, list) else []
    if delimiter is not None and (not single_line(delimiter) or (form.quote or '"') in delimiter):
        return f"delimiter: must be one or more characters, without quotes and line ends, not {delimiter!r}"
    if form.list_separator == "":
        return "list_separator: must not be empty"
    if form.encoding is not None and not known_encoding(form.encoding):
        return (
            f"encoding: {form.encoding!r} is no encoding of text that Python knows; utf-8, cp1252 and utf-16 are some"
        )
    if isinstance(form.header, list) and (not names or "" in names or len(set(names)) < len(names)):
        return "header: must name each column once, or be true or false"
    return ""


def wanted_values(only: Mapping[str, Any], before: str = "") -> dict[str, list[Any]]:
    """Column -> the values that it may have. In TOML `event.type = "view"` without quotes is a table in a table.

    >>> wanted_values({"event": {"type": "view"}, "v": [1, 2]})
    {'event.type': ['view'], 'v': [1, 2]}
    """
    found: dict[str, list[Any]] = {}
    for name, value in only.items():
        if isinstance(value, dict):
            found |= wanted_values(value, f"{before}{name}.")
        else:
            found[before + name] = value if isinstance(value, list) else [value]
    return found


def _problem_of_only(only: Mapping[str, Any]) -> str:
    for name, values in wanted_values(only).items():
        if not values or not all(isinstance(one, str | int | float | bool) for one in values):
            return f"only.{name}: must be a text, a number, true or false, or a list of such values"
    return ""


def _problem_of_column(column: Column) -> str:
    if column.unit is not None and column.unit not in UNITS and "%" not in column.unit:
        return f"unit: must be {', '.join(UNITS)} or a form such as %d.%m.%Y %H:%M, not {column.unit!r}"
    return "separator: must not be empty" if column.separator == "" else ""


def as_column(column: str | Column) -> Column:
    """A column, of which a mapping may give the name alone."""
    return Column(column) if isinstance(column, str) else column


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name that was probably meant, or all known names."""
    known = list(known)
    return did_you_mean(name, known, otherwise=f"known are {', '.join(known) or 'none'}")

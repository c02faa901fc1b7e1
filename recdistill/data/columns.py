"""The cells of one column -> what they are: numbers, times and their unit, lists and their separator, or text.

It looks at a sample and guesses. It knows nothing of files, rows or records.

Example:
    >>> look("ts", ["881250949", "891717742"]).unit, look("genres", ["drama|war", "war", "drama"]).separator
    ('s', '|')
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from recdistill.errors import DataError
from recdistill.limits import MAX_COLUMNS

Guess = Literal["text", "number", "flag", "texts", "numbers", "time"]

_FLAGS: Final = {"true", "false", "yes", "no"}
_TIMELY: Final = re.compile(r"(^|[_\W])(time|date|ts|at|when|day|unix)([_\W]|$)|time|stamp|date", re.IGNORECASE)
# Numbers of at least so much are times in this unit: 1e11 seconds is the year 5138, 1e11 milliseconds is 1973.
_MAGNITUDES: Final = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
FORMATS: Final = (
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%a %b %d %H:%M:%S %z %Y",
)
"""Forms of times that are tried beside ISO 8601 and numbers, in the words of `strptime`."""

_ID: Final = re.compile(r"[\w.:/@-]{1,64}")
NOTHING: Final = frozenset({"", "nan", "na", "n/a", "null", "none", "\\n", "<na>", "nat"})
"""Cells, in small letters, that say nothing where a number, a time or a flag is wanted."""


class Seen(Struct, frozen=True, kw_only=True):
    """One column, as a sample shows it.

    Attributes:
        name: Its name, without the type that RecBole's headers add.
        type: What its cells are; None if all are empty.
        unit: How its times are written: s, ms, us, ns, iso, or a format of `strptime`. Also for numbers that may be
            times. None if they are no times.
        separator: Between the members of its lists; "json" for cells such as `[1, 2]`. None if they are no lists.
        if_list: The separator if somebody says that the cells are lists of ids or numbers.
        filled: How many of the cells are not empty.
        distinct: How many of those differ.
        examples: The first few that differ.
    """

    name: str
    type: Guess | None = None
    unit: str | None = None
    separator: str | None = None
    if_list: str | None = None
    filled: int = 0
    distinct: int = 0
    examples: tuple[str, ...] = ()


_ATOMIC: Final[dict[str, tuple[Guess, str | None]]] = {
    "token": ("text", None),
    "token_seq": ("texts", " "),
    "float": ("number", None),
    "float_seq": ("numbers", " "),
}


def atomic(name: str) -> tuple[str, str] | None:
    """Name and type of a column of RecBole's atomic files, or None.

    >>> atomic("genre:token_seq"), atomic("genre")
    (('genre', 'token_seq'), None)
    """
    plain, colon, kind = name.rpartition(":")
    return (plain, kind) if colon and plain and kind in _ATOMIC else None


def check_width(table: str, columns: int) -> None:
    """Refuses a table with so many columns that it stands on its side, or is written another way.

    Args:
        table: Its name, for the error.
        columns: How many it has.

    Raises:
        DataError: They are too many.
    """
    if columns > MAX_COLUMNS:
        raise DataError(
            f"{table}: has {columns:,} columns, more than {MAX_COLUMNS:,}; a table has one row for each item, list or "
            "event: turn it, or set delimiter and quote in the mapping"
        )


def look(name: str, cells: Sequence[Any], declared: str | None = None) -> Seen:
    """Looks at the cells of a column.

    Args:
        name: Its name. It helps to tell times from other numbers.
        cells: A sample.
        declared: The type that RecBole's header gives it, if any.
    """
    there = [cell for cell in cells if not (cell is None or cell != cell or cell == "")]
    filled = [cell for cell in there if not (isinstance(cell, str) and cell.strip().lower() in NOTHING)]
    kind, unit, separator = _kind(name, filled) if filled else (None, None, None)
    if declared is not None and filled:
        kind, separator = _ATOMIC[declared]
        if unit is not None and declared == "float" and _TIMELY.search(name):
            kind = "time"
    if kind in ("text", "texts"):  # "none" may be a word there
        filled = there
    texts = [cell if isinstance(cell, str) else str(cell) for cell in filled]
    return Seen(
        name=name,
        type=kind,
        unit=unit,
        separator=separator,
        if_list=separator or separator_of([one for one in there if isinstance(one, str)], ids=True),
        filled=len(filled),
        distinct=len(set(texts)),
        examples=tuple(islice(dict.fromkeys(text[:60] for text in texts), 4)),
    )


def _kind(name: str, cells: Sequence[Any]) -> tuple[Guess, str | None, str | None]:
    if all(isinstance(cell, bool) or (isinstance(cell, str) and cell.lower() in _FLAGS) for cell in cells):
        return "flag", None, None
    if all(isinstance(cell, date) for cell in cells):
        return "time", "iso", None
    numbers = [number(cell) for cell in cells]
    if None not in numbers:
        unit = unit_of([one for one in numbers if one is not None])
        return ("time" if unit is not None and _TIMELY.search(name) else "number"), unit, None
    if any(isinstance(cell, list | tuple) for cell in cells):
        return *_of_lists([one for cell in cells if isinstance(cell, list | tuple) for one in cell]), None
    texts = [str(cell) for cell in cells]
    if (written := written_times(texts)) is not None:
        return "time", written, None
    if (separator := separator_of(texts)) is not None:
        return *_of_lists([one for text in texts for one in _try_members(text, separator)]), separator
    return "text", None, None


def _of_lists(members: list[Any]) -> tuple[Guess, str | None]:
    """Type of lists with these members, and the unit of the members if they are times."""
    members = [one for one in members if not _empty(one)]
    numbers = [found for one in members if (found := number(one)) is not None]
    if members and len(numbers) == len(members):
        return "numbers", unit_of(numbers)
    return "texts", written_times([str(one) for one in members[:200]]) if members else None


def _try_members(text: str, separator: str) -> list[Any]:
    try:
        return members_of(text, separator)
    except ValueError:
        return []


def number(cell: Any) -> float | None:
    """The finite number that a cell is, or None."""
    if (
        isinstance(cell, bool)
        or not isinstance(cell, str | int | float | Decimal)
        or (
            isinstance(cell, str) and "_" in cell  # Python would read 1_000
        )
    ):
        return None
    try:
        found = float(cell)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def unit_of(numbers: Sequence[float]) -> str | None:
    """The unit in which numbers are times since 1970, by their size. None if they are no times of the last decades."""
    middle = sorted(numbers)[len(numbers) // 2] if numbers else 0.0
    unit = next((unit for least, unit in _MAGNITUDES if middle >= least), "s")
    return unit if middle >= 1e8 else None


def written_times(texts: Sequence[str]) -> str | None:
    """The form in which times are written: iso, or the one of `FORMATS` that fits all texts.

    None if none does, or if it is in doubt which number is the month.
    """
    if all(_fits(datetime.fromisoformat, text) and re.match(r"\d{4}-\d\d?-\d\d?|\d{8}T", text) for text in texts):
        return "iso"
    if not re.search(r"\d", texts[0]):
        return None
    fitting = [form for form in FORMATS if all(_fits(lambda text: datetime.strptime(text, form), one) for one in texts)]  # noqa: B023, DTZ007
    first_of_month = {form for form in fitting if "%d/%m" in form}
    if first_of_month and any("%m/%d" in form for form in fitting):  # 01/02 fits both: say nothing
        return next((form for form in fitting if "%p" in form and "%m/%d" in form), None)
    return fitting[0] if fitting else None


def _fits(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text.strip())
    except (ValueError, OverflowError):
        return False
    return True


def separator_of(texts: Sequence[str], *, ids: bool = False) -> str | None:
    """What stands between the members of lists; None if the cells are no lists.

    Args:
        texts: Cells.
        ids: Whether they are known to be lists of ids or numbers. Then a comma or a blank anywhere is enough.
    """
    if texts and all(text.startswith("[") and text.endswith("]") for text in texts):
        return "json"
    for separator in "|;, ":
        having = [text for text in texts if separator in text]
        if not having:
            continue
        if ids and separator != " ":
            return separator
        members = [one for text in having for one in members_of(text, separator)]
        if not members or (separator == " " and not all(map(_ID.fullmatch, members))):
            continue
        if ids:
            return separator
        often = len(set(members)) <= len(members) / 2 and max(map(len, members)) <= 40
        if len(having) >= len(texts) / 5 and (separator == "|" or (often and separator != " ")):
            return separator
        if separator == " " and len(members) >= 4 * len(having) and all(re.search(r"\d", one) for one in members):
            return separator
    return None


def members_of(cell: str, separator: str, *, blanks: bool = False) -> list[Any]:
    """Members of a list in one cell.

    Args:
        cell: The cell.
        separator: What stands between them, or "json".
        blanks: Whether empty members stay, because they belong to the members of another list.

    Raises:
        ValueError: It should be a list such as [1, 2], and is not.
    """
    if separator == "json":
        return _bracketed(cell)
    if separator == " ":
        return cell.split()
    parts = [part.strip() for part in cell.split(separator)]
    return parts if blanks else [part for part in parts if part]


def _bracketed(cell: str) -> list[Any]:
    try:
        found = msgspec.json.decode(cell)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found = ast.literal_eval(cell) if len(cell) < 1 << 20 else None  # Python's own way to write a list
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            found = None
    if not isinstance(found, list | tuple):
        raise ValueError(  # noqa: TRY004  the cell is wrong, not the call
            f"must be a list such as [1, 2], not {cell[:40]!r}"
        )
    return list(found)


def _empty(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip().lower() in NOTHING)

"""One cell of a table -> one value, or a ValueError that says what the cell is and what is wanted.

Cells come as text (CSV), or with the types of JSON or Parquet. It knows nothing of rows or columns.

Example:
    >>> as_time_us("2026-01-01T00:00:01Z", "iso"), as_texts("drama|war", "|"), as_number("2.5")
    (1767225601000000, ['drama', 'war'], 2.5)
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from recdistill.records import MAX_TIME_US

Kind = Literal["text", "number", "flag", "texts", "numbers"]
Unit = Literal["s", "ms", "us", "iso"]

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_FACTORS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_text(cell: Any) -> str:
    """A text as it is. A whole number is written without a point: an id may have become a float on its way."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        whole = math.isfinite(cell) and -(2**63) < cell < 2**63 and cell == int(cell)
        return str(int(cell)) if whole else str(cell)
    raise ValueError(f"must be a text, not {_shown(cell)}")


def as_number(cell: Any) -> float:
    """A finite number."""
    try:
        number = float(cell) if isinstance(cell, str | int | float | Decimal) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {_shown(cell)}")
    return number


def as_flag(cell: Any) -> bool:
    """true/false, yes/no or 1/0."""
    flag = _FLAGS.get(str(cell).strip().lower()) if isinstance(cell, str | int | bool) else None
    if flag is None:
        raise ValueError(f"must be true or false, not {_shown(cell)}")
    return flag


def as_texts(cell: Any, separator: str) -> list[str]:
    """A list of texts. A text is split, and empty parts are left out."""
    if isinstance(cell, list | tuple):
        return [as_text(one) for one in cell]
    if isinstance(cell, str):
        return [part.strip() for part in cell.split(separator) if part.strip()]
    return [as_text(cell)]


def as_numbers(cell: Any, separator: str) -> list[float]:
    """A list of finite numbers. A text is split."""
    parts = cell.split(separator) if isinstance(cell, str) else cell if isinstance(cell, list | tuple) else [cell]
    return [as_number(part) for part in parts if part != ""]


def as_value(cell: Any, kind: Kind | None, separator: str) -> str | float | bool | list[str] | list[float]:
    """A value of the given kind. With None the value keeps its type."""
    match kind:
        case "text":
            return as_text(cell)
        case "number":
            return as_number(cell)
        case "flag":
            return as_flag(cell)
        case "texts":
            return as_texts(cell, separator)
        case "numbers":
            return as_numbers(cell, separator)
    if isinstance(cell, str | bool):
        return cell
    if isinstance(cell, int | float | Decimal):
        return as_number(cell)
    if isinstance(cell, list | tuple):
        return as_texts(cell, separator) if any(isinstance(one, str) for one in cell) else as_numbers(cell, separator)
    raise ValueError(f"must be a text, number, flag or a list of texts or numbers, not {_shown(cell)}")


def as_time_us(cell: Any, unit: Unit) -> int:
    """Microseconds since 1970. A cell of a date type needs no unit. A time without a zone is UTC."""
    if isinstance(cell, date):  # a datetime is a date too
        return _since_epoch(cell, cell)
    if unit == "iso":
        try:
            return _since_epoch(datetime.fromisoformat(cell.strip()), cell)
        except (ValueError, AttributeError):
            raise ValueError(
                f'must be a time such as 2026-01-31T12:00:00Z, not {_shown(cell)}; is unit = "iso" right?'
            ) from None
    time_us = None
    if isinstance(cell, int) and not isinstance(cell, bool):
        time_us = cell * _FACTORS[unit]
    elif isinstance(cell, str) and cell.strip().isdecimal() and cell.strip().isascii() and len(cell) < 30:
        time_us = int(cell) * _FACTORS[unit]  # exact: a float would lose microseconds
    elif not isinstance(cell, bool):
        try:
            time_us = round(as_number(cell) * _FACTORS[unit])
        except (ValueError, OverflowError):  # OverflowError for a number near the largest float
            raise ValueError(
                f'must be a time in {unit} since 1970, not {_shown(cell)}; is it written another way, say unit = "iso"?'
            ) from None
    if time_us is None or not 0 <= time_us <= MAX_TIME_US:
        raise ValueError(
            f"{_shown(cell)} in {unit} since 1970 is no time before the year 10000; set its unit (s, ms, us or iso)"
        )
    return time_us


def _since_epoch(moment: date, cell: Any) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001  the zone follows
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    time_us = (moment - _EPOCH) // timedelta(microseconds=1)
    if time_us < 0:
        raise ValueError(f"{_shown(cell)} is before 1970")
    return time_us


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else text[:39] + "…"

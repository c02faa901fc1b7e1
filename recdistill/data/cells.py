"""One cell of a table -> one value, or a ValueError that says what the cell is and what is wanted.

Cells come as text, or with the types of JSON or Parquet. Blanks around a text never belong to it, also in the members
of a list: so the ids of one table meet those of another.

It knows nothing of rows or columns.

Example:
    >>> as_time_us("2026-01-01T00:00:01Z", "iso"), as_texts("drama | war", "|"), as_number("2.5")
    (1767225601000000, ['drama', 'war'], 2.5)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar
from uuid import UUID

from recdistill.data.columns import NOTHING, members_of, number, unit_of
from recdistill.records import MAX_TIME_US

Kind = Literal["text", "number", "flag", "texts", "numbers"]
V = TypeVar("V")

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_FACTORS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
UNITS = (*_FACTORS, "iso")
GUESSED = "guessed"
"""A unit that each time tells by itself: a text is ISO 8601, and a number by its size s, ms, us or ns."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def says_nothing(cell: Any, kind: str, missing: tuple[str, ...] | None) -> bool:
    """Whether a cell holds no value.

    Args:
        cell: The cell.
        kind: What is wanted of it.
        missing: The texts that say nothing, beside the empty one. None: those of `NOTHING`, where no text is wanted.
    """
    if cell is None or cell != cell:  # NaN is how some tables write "nothing"
        return True
    if not isinstance(cell, str):
        return missing is not None and str(cell) in missing
    text = cell.strip()
    if missing is not None:
        return not text or text in missing
    return not text or text == "\\N" or (kind in ("number", "flag", "time") and text.lower() in NOTHING)


def as_text(cell: Any) -> str:
    """A text without the blanks around it. A whole number has no point: an id may have become a float on its way."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, UUID) or (isinstance(cell, int) and not isinstance(cell, bool)):
        return str(cell)
    if isinstance(cell, float | Decimal):
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


def as_whole(cell: Any) -> int:
    """A whole number from 0 on, with all of its digits: above 2^53 a float has lost some."""
    if isinstance(cell, str) and _whole(cell.strip()):
        cell = int(cell)
    number: float | Decimal = cell if isinstance(cell, int) else as_number(cell)
    if isinstance(cell, Decimal):  # it is finite, `as_number` has seen to that
        number = cell
    if number < 0 or number != int(number):
        raise ValueError(f"must be a whole number from 0 on, not {_shown(number)}")
    return int(number)


def as_flag(cell: Any) -> bool:
    """true/false, yes/no or 1/0."""
    flag = _FLAGS.get(str(cell).strip().lower()) if isinstance(cell, str | int | bool) else None
    if flag is None:
        raise ValueError(f"must be true or false, not {_shown(cell)}")
    return flag


def as_texts(cell: Any, separator: str) -> list[str]:
    """A list of texts. A text is split, and empty parts are left out."""
    return [as_text(one) for one in _members(cell, separator)]


def as_numbers(cell: Any, separator: str) -> list[float]:
    """A list of finite numbers. A text is split."""
    return [as_number(part) for part in _members(cell, separator)]


def as_beside(
    cell: Any, separator: str, read: Callable[[Any], V], nothing: Callable[[Any], bool], absent: V
) -> list[V]:
    """A list whose members belong to those of another list. Each member without a value is `absent`.

    Args:
        cell: The cell.
        separator: What stands between the members in a text.
        read: One member -> its value.
        nothing: Whether a member says nothing.
        absent: The value of such a member.
    """
    members = members_of(cell, separator, blanks=True) if isinstance(cell, str) else cell
    if not isinstance(members, list | tuple):
        members = [members]
    return [absent if nothing(one) else read(one) for one in members]


def _members(cell: Any, separator: str) -> list[Any]:
    if isinstance(cell, str):
        cell = members_of(cell, separator)
    if isinstance(cell, list | tuple):
        return [one for one in cell if not (one is None or (isinstance(one, str) and not one.strip()))]
    return [cell]


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
    if isinstance(cell, str):
        return as_text(cell)
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, int | float | Decimal):
        return as_number(cell)
    if isinstance(cell, list | tuple):
        return as_texts(cell, separator) if any(isinstance(one, str) for one in cell) else as_numbers(cell, separator)
    raise ValueError(f"must be a text, number, flag or a list of texts or numbers, not {_shown(cell)}")


def as_time_us(cell: Any, unit: str) -> int:
    """Microseconds since 1970. A cell of a date type needs no unit. A time without a zone is UTC.

    Args:
        cell: The cell.
        unit: s, ms, us, ns, iso, `GUESSED`, or a format of `strptime`.
    """
    if isinstance(cell, date):  # a datetime is a date too
        return _since_epoch(cell, cell)
    if unit == GUESSED:
        size = number(cell)
        unit = ("iso" if isinstance(cell, str) else "s") if size is None else unit_of([size]) or "s"
    if unit == "iso" or "%" in unit:
        try:
            text = cell.strip()
            moment = datetime.fromisoformat(text) if unit == "iso" else datetime.strptime(text, unit)  # noqa: DTZ007  the zone follows
        except (ValueError, AttributeError, TypeError):  # TypeError: bytes have `strip` too
            wanted = "a time such as 2026-01-31T12:00:00Z" if unit == "iso" else f"a time in the form {unit}"
            raise ValueError(f'must be {wanted}, not {_shown(cell)}; is unit = "{unit}" right?') from None
        return _since_epoch(moment, cell)
    time_us = None
    if isinstance(cell, int) and not isinstance(cell, bool):
        time_us = _scaled(cell, unit)
    elif isinstance(cell, str) and _whole(cell.strip()):
        time_us = _scaled(int(cell), unit)  # exact: a float would lose microseconds
    elif not isinstance(cell, bool):
        try:
            time_us = round(as_number(cell) * _FACTORS[unit])
        except (ValueError, OverflowError):  # OverflowError for a number near the largest float
            raise ValueError(
                f'must be a time in {unit} since 1970, not {_shown(cell)}; is it written another way, say unit = "iso"?'
            ) from None
    if time_us is None or time_us > MAX_TIME_US:
        raise ValueError(
            f"{_shown(cell)} in {unit} since 1970 is no time before the year 10000; set its unit (s, ms, us, ns or iso)"
        )
    return _from_1970(time_us, cell)


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 30


def _scaled(number: int, unit: str) -> int:
    return number // 1000 if unit == "ns" else number * int(_FACTORS[unit])


def _since_epoch(moment: date, cell: Any) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001  the zone follows
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _from_1970((moment - _EPOCH) // timedelta(microseconds=1), cell)


def _from_1970(time_us: int, cell: Any) -> int:
    if time_us < 0:
        raise ValueError(f"{_shown(cell)} is before 1970, and no record can be older; leave this row out")
    return time_us


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else text[:39] + "…"

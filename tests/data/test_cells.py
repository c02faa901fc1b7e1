"""One cell: what it becomes, and that whatever it is, what is wrong with it is one sentence."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from recdistill.data.cells import as_text, as_time_us, as_whole


@pytest.mark.parametrize(
    ("cell", "text"),
    [(7, "7"), (7.0, "7"), (-(2**70), str(-(2**70))), (10**400, "1" + "0" * 400), (Decimal("2.50"), "2.50")],
)
def test_a_number_is_the_text_of_its_digits(cell: Any, text: str) -> None:
    assert as_text(cell) == text


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (1_767_600_000_000_000_001, 1_767_600_000_000_000_001),  # a float would end in ...000
        ("1767600000000000001", 1_767_600_000_000_000_001),
        (2**63 - 1, 2**63 - 1),
        (Decimal(2**63 - 1), 2**63 - 1),
        (3.0, 3),
        (" 3.0", 3),
        (True, 1),
        (10**400, 10**400),
    ],
)
def test_a_whole_number_keeps_its_digits(cell: Any, number: int) -> None:
    assert as_whole(cell) == number


@pytest.mark.parametrize(
    "cell", [-1, "-1", 1.5, "1.5", "x", float("inf"), Decimal("Infinity"), Decimal("0.5"), None, [1]]
)
def test_what_is_no_whole_number_is_said(cell: Any) -> None:
    with pytest.raises(ValueError, match="must be a (whole|finite) number"):
        as_whole(cell)


@pytest.mark.parametrize("unit", ["iso", "%d.%m.%Y", "s", "guessed"])
def test_bytes_are_no_time(unit: str) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        as_time_us(b"2026-01-01", unit)

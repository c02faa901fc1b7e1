"""Templates: what is filled in, what is left out, and what is not read twice."""

from __future__ import annotations

import pytest

from recdistill.records import Value
from recdistill.teachers.language.templates import placeholders, render

KNOWN: dict[str, Value] = {"title": "{year}", "year": 1979.0, "genres": ["horror", "sci-fi"], "new": True, "empty": ""}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{title} of {year}", "{year} of 1979"),
        ("{genres}; {new}", "horror, sci-fi; true"),
        ("  {missing} by {empty}  nobody ", "by nobody"),
        ("no place, } or {", "no place, } or {"),
        ("{}", ""),
    ],
)
def test_it_fills_in_what_is_known_once(template: str, text: str) -> None:
    assert render(template, KNOWN.get) == text


def test_placeholders_are_in_their_order() -> None:
    assert placeholders("{b} {a} {} {b}") == ["b", "a", "", "b"]

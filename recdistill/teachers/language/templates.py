"""Templates that make text from an item or a request: `{title} ({year})`.

They know nothing of who reads the text.

Example:
    >>> render("{title} ({year})", {"title": "Alien", "year": 1979.0}.get)
    'Alien (1979)'
    >>> placeholders("{title} ({year})")
    ['title', 'year']
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from recdistill.records import Value
from recdistill.teachers.tensors import text_of

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def placeholders(template: str) -> list[str]:
    """The names in braces, in order. An empty pair of braces gives an empty name."""
    return _PLACEHOLDER.findall(template)


def render(template: str, fill: Callable[[str], Value | None]) -> str:
    """Fills in the names in braces. A missing value gives an empty text. A value is never read as a template."""

    def text(match: re.Match[str]) -> str:
        value = fill(match[1])
        if value is None:
            return ""
        return ", ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)

    return " ".join(_PLACEHOLDER.sub(text, template).split())

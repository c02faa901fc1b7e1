"""Logs a condition when it begins or changes, not each time it is met.

It knows nothing of loops.

Example:
    >>> class Lines:
    ...     def warning(self, form, text): print(text)
    >>> once = Once(Lines())
    >>> for text in ("no answer", "no answer", "", "no answer"):
    ...     once(text)
    no answer
    no answer
"""

from __future__ import annotations

from typing import Protocol


class _Lines(Protocol):
    def warning(self, msg: str, text: str, /) -> None: ...


class Once:
    """Logs a text when it is not the one before. An empty text ends the condition.

    Args:
        lines: The logger.
    """

    def __init__(self, lines: _Lines) -> None:
        self._lines, self._last = lines, ""

    def __call__(self, text: str) -> None:
        """The condition as it is now."""
        if text and text != self._last:
            self._lines.warning("%s", text)
        self._last = text

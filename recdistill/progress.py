"""Small things that many rooms need: how long work reports its progress and figures, and the size of a folder.

It knows nothing of terminals or of bars.

Example:
    >>> class Printed:
    ...     def __call__(self, done: int, total: int | None) -> None:
    ...         print(f"{done} of {total}")
    >>> told: Progress = Printed()
    >>> told(3, 10)
    3 of 10
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Long work calls it often, so it must be fast."""

    def __call__(self, done: int, total: int | None) -> None:
        """Says that `done` of `total` parts are done; `total` is None when there is no end."""


def tell(progress: object, figures: Mapping[str, float]) -> None:
    """Gives figures, such as the loss, to whoever shows the progress, if it shows figures."""
    shows = getattr(progress, "tell", None)
    if shows is not None:
        shows(figures)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

"""The champion of a registry, opened with the code that serves it.

It knows nothing of students or of how a champion is followed.

Example:
    >>> InRegistry(Champion("student", lambda: None, Path("cache")), lambda: False).now()
    ''
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path  # noqa: F401 - the example uses it

from recdistill.loops.follow import Champion
from recdistill.loops.prequential.champion import Found


class InRegistry:
    """Champions of a registry; see `champion.Finds`.

    Args:
        champion: The alias, and where fetched bundles lie.
        there: Whether there is a registry. One that is not there is not asked, since asking may make it.
    """

    def __init__(self, champion: Champion, there: Callable[[], bool]) -> None:
        self._champion, self._there = champion, there

    def now(self) -> str:
        """Content hash of the champion; empty: there is none.

        Raises:
            RegistryError: The registry does not answer.
        """
        ref = self._champion.look() if self._there() else None
        return "" if ref is None else ref.content_hash

    def open(self, content_hash: str) -> Found:
        """A bundle, verified and opened.

        Raises:
            RegistryError: The registry does not have it.
            BundleError: It is damaged.
        """
        from recdistill.serve import Recommender

        bundle = self._champion.take(content_hash)
        found = Found(content_hash, Recommender(bundle))
        self._champion.took(bundle)
        return found

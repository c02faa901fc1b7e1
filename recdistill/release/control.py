"""Finds the newest bundle of the control: the same student on the same examples, taught by labels alone.

Bundles of the control are in a separate store, that of another registered model, and no process announces them. So a
promoter cannot mistake one for a candidate. The judge takes the newest, to say what distillation adds.

It knows nothing of how a student learns.

Example:
    >>> missing("the registry")
    'there is none in the registry; this command makes one beside the student: recdistill distil --control'
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import BundleError
from recdistill.registry import Held, Registry

KEEP: Final = 2
"""So many bundles of the control are kept."""

COMMAND: Final = "recdistill distil --control"


def missing(where: str) -> str:
    """The sentence that says that there is no control, and how to get one."""
    return f"there is none in {where}; this command makes one beside the student: {COMMAND}"


class Controls:
    """The bundles of the control. For one thread.

    Args:
        store: The registered model whose store has these bundles.
        try_it: Tries a bundle in a separate process before it is used. None: it is not tried.
    """

    def __init__(self, store: Registry, try_it: Callable[[Bundle], object] | None = None) -> None:
        self._store, self._try = store, try_it
        self._tried = ""

    def known(self) -> bool:
        """Whether a control was ever begun here.

        Raises:
            RegistryError: The registry does not answer.
        """
        return self._store.store_since() is not None

    def empty_since(self) -> float | None:
        """When a control was begun that has no bundle yet, in seconds since 1970. None: there is no such control.

        Raises:
            RegistryError: The registry does not answer.
        """
        return None if self._held() else self._store.store_since()

    def newest(self, into: Path) -> tuple[Bundle | None, str]:
        """The newest bundle, or a sentence that says why there is none.

        Args:
            into: The folder for its files.

        Raises:
            RegistryError: The registry does not answer.
        """
        held = self._held()
        if not held:
            return None, missing("the registry")
        content_hash = held[-1].content_hash
        try:
            bundle = self._store.take(content_hash, into)
            if self._try is not None and self._tried != content_hash:
                self._try(bundle)
                self._tried = content_hash
        except BundleError as e:
            return None, f"the newest one cannot be used: {e}"
        return bundle, ""

    def give_back(self, *, grace_s: float) -> int:
        """Drops all bundles but the newest ones, and returns how many bytes were freed now.

        Only one process at a time may do this: the promoter.

        Raises:
            RegistryError: The registry does not answer.
        """
        held = self._held()
        return self._store.give_back([one.content_hash for one in held[:-KEEP]], grace_s=grace_s) if held else 0

    def _held(self) -> list[Held]:
        """What the store has, the oldest first. A store that was never used is not created by this."""
        if not self.known():
            return []
        return sorted(self._store.held(), key=lambda one: (one.made_at, one.content_hash))


def in_folder(bundles: Path) -> tuple[Bundle | None, str]:
    """The newest bundle of a folder, or a sentence that says why there is none."""
    newest = max(bundles.glob("step-*"), default=None)
    if newest is None:
        return None, missing(str(bundles))
    try:
        return open_bundle(newest), ""
    except BundleError as e:
        return None, f"the newest one cannot be used: {e}"

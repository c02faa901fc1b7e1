"""Bundles that somebody names in a terminal: they are tried in a process of their own before this one runs them.

A tower that never ends would hang the verb, and Python cannot end it. `[trial]` bounds the trial, and with
`trial.on = false` there is none.

It knows nothing of what a trial asks.

Example:
    >>> from recdistill.config import Settings
    >>> try_first(Settings())
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.config import Settings

_TRIED: set[str] = set()
"""Content that was tried in this process. The same bytes do the same, so once is enough."""


def try_first(settings: Settings, *bundles: Bundle) -> None:
    """Tries bundles, each in a process of its own.

    Raises:
        BundleError: One of them does not run as it should, or ran into a bound.
    """
    if not settings.trial.on:
        return
    from recdistill.loops import opened

    try_it = opened.trial_of(settings)
    for bundle in bundles:
        if try_it is not None and bundle.content_hash not in _TRIED:
            try_it(bundle)
            _TRIED.add(bundle.content_hash)

"""The folder of fetched bundles: what nobody uses any more is deleted.

A ranker and a prober on one machine may share it. So whoever uses a bundle touches its folder now and then, and only
what nobody has touched for a while goes.

It knows nothing of MLflow.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for digit in "abc":
    ...         Path(folder, digit * 64).mkdir()
    ...     prune_cache(Path(folder), keep={"a" * 64}, idle_s=-1.0)
    2
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

IDLE_S: Final = 3600.0
"""A folder that nobody has touched for so long is in nobody's use."""

_PLACE: Final = re.compile(r"[0-9a-f]{64}|\.fetch-.*")


def touch(place: Path) -> None:
    """Says that a bundle's folder is in use."""
    with contextlib.suppress(OSError):  # it may be read-only, or somebody's own folder that is gone
        os.utime(place)


def prune_cache(cache: Path, *, keep: Collection[str], idle_s: float = IDLE_S) -> int:
    """Deletes fetched bundles, and downloads that were broken off. Returns how many.

    Args:
        cache: The folder; other files in it are left alone.
        keep: Content hashes that stay, however long ago they were touched.
        idle_s: What was touched in the last so many seconds stays too.
    """
    gone = 0
    with contextlib.suppress(FileNotFoundError):
        for place in list(cache.iterdir()):
            if place.name in keep or not _PLACE.fullmatch(place.name):
                continue
            with contextlib.suppress(FileNotFoundError):
                if time.time() - place.stat().st_mtime > idle_s:
                    shutil.rmtree(place, ignore_errors=True)
                    gone += 1
    return gone

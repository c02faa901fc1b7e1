"""The folder of fetched bundles, each under its content hash: fetched once, deleted when nobody uses it any more.

A ranker and a prober on one machine may share it. So whoever uses a bundle touches its folder now and then. Only
folders that nobody has touched for a while are deleted.

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
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import BundleError, RegistryError

log_ = logging.getLogger(__name__)

IDLE_S: Final = 3600.0
"""A folder that nobody has touched for so long is not in use."""

_PLACE: Final = re.compile(r"[0-9a-f]{64}|\.fetch-.*")


def cached(into: Path, content_hash: str, download: Callable[[Path], None]) -> Bundle:
    """The verified bundle in `into/CONTENT_HASH`; it is downloaded when it is not there, or not whole.

    Args:
        into: The folder.
        content_hash: A valid one: it becomes a folder's name.
        download: Writes the bundle's files into an empty folder.

    Raises:
        BundleError: What was downloaded does not verify.
        RegistryError: It cannot be put into the folder.
    """
    place = into / content_hash
    if (found := _there(place, content_hash)) is not None:
        return found
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch:
        got = Path(scratch, "bundle")
        got.mkdir()
        download(got)
        bundle = open_bundle(got)
        try:
            got.rename(place)
        except OSError as e:
            # Another process may have been faster.
            if (found := _there(place, content_hash)) is not None:
                return found
            raise RegistryError(
                f"{place}: the fetched bundle cannot be put there ({e.strerror}); is the folder writable?"
            ) from e
    return replace(bundle, path=place)  # its arrays are mapped already, whatever the folder is called


def _there(place: Path, content_hash: str) -> Bundle | None:
    """The bundle in a folder of the cache; None when it is not there, or not what it should be."""
    if not place.exists():
        return None
    try:
        found = open_bundle(place)
        if found.content_hash == content_hash:
            return found
    except BundleError as e:
        log_.warning("cached bundle %s does not verify (%s): fetching it again", content_hash[:12], e)
    shutil.rmtree(place, ignore_errors=True)
    return None


def touch(place: Path) -> None:
    """Says that a bundle's folder is in use."""
    with contextlib.suppress(OSError):  # it may be read-only, or somebody's own folder that is gone
        os.utime(place)


def prune_cache(cache: Path, *, keep: Collection[str], idle_s: float = IDLE_S) -> int:
    """Deletes fetched bundles, and downloads that were not finished. Returns how many.

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

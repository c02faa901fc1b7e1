"""Finds the public data sets that some tests and benchmarks use. They do not ship with the project.

It knows nothing of their contents. A test without its data set may skip, even where no other test may skip.

Example:
    >>> issubclass(AbsentData, pytest.skip.Exception)
    True
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class AbsentData(pytest.skip.Exception):
    """The only reason to skip that is always allowed: a data set that does not ship."""


def data_folder() -> Path:
    """The folder of the data sets: RECDISTILL_SHARED/data, or shared/data next to the checkout.

    Raises:
        AbsentData: There is no such folder.
    """
    place = Path(os.environ.get("RECDISTILL_SHARED", ROOT.parent / "shared")) / "data"
    if not place.is_dir():
        raise AbsentData(f"no data sets in {place}; set RECDISTILL_SHARED to the folder that holds data/")
    return place


def films_of_some_users(data: Path, to: Path, users: int) -> Path:
    """A folder of MovieLens 100K with all films, and the ratings of the users with the smallest numbers alone."""
    shutil.copytree(data / "ml-100k", to)
    ratings = to / "ml-100k.inter"
    head, *lines = ratings.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if int(line.partition("\t")[0]) <= users]
    ratings.write_text(head + "".join(kept), encoding="utf-8")
    return to

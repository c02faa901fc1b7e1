"""The public data sets that some tests and benchmarks use, and that do not ship with the project.

It knows nothing of what is in them. A test that needs one and finds none may skip, even where nothing else may.

Example:
    >>> issubclass(AbsentData, pytest.skip.Exception)
    True
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class AbsentData(pytest.skip.Exception):
    """The one reason to skip that is good everywhere: data that does not ship."""


def data_folder() -> Path:
    """Where they lie: in RECDISTILL_SHARED/data, or in shared/data beside the checkout.

    Raises:
        AbsentData: There is no such folder.
    """
    place = Path(os.environ.get("RECDISTILL_SHARED", ROOT.parent / "shared")) / "data"
    if not place.is_dir():
        raise AbsentData(f"no data sets in {place}; set RECDISTILL_SHARED to the folder that holds data/")
    return place

"""Which part of the log a bundle learnt, where its manifest says something strange."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.errors import DataError
from recdistill.release.parts import stopped_at
from recdistill.stream import open_log
from references.students import make_student


@pytest.mark.parametrize("positions", ["here", None, [1], {"lanes": 7}])
def test_positions_in_a_strange_form_are_one_sentence(tmp_path: Path, positions: object) -> None:
    bundle = make_student().export(tmp_path / "bundle", provenance={"positions": positions})
    with (
        closing(open_log(LogSettings(path=str(tmp_path / "log.sqlite")))) as log,
        pytest.raises(DataError, match="its manifest does not say where it stopped learning"),
    ):
        stopped_at(log, bundle)

"""The folder of fetched bundles: what serves and what is in somebody's use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from recdistill.registry import prune_cache, touch


def test_only_what_nobody_uses_goes(tmp_path: Path) -> None:
    serving, before, others, old = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
    names = [serving, before, others, old, ".fetch-broken-off", ".fetch-now", "somebody's notes", "e" * 63]
    long_ago = time.time() - 7200
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
        os.utime(tmp_path / name, (long_ago, long_ago))
    touch(tmp_path / others)  # by another process
    touch(tmp_path / ".fetch-now")
    assert prune_cache(tmp_path, keep={serving, before}) == 2
    assert {place.name for place in tmp_path.iterdir()} == set(names) - {old, ".fetch-broken-off"}
    assert prune_cache(tmp_path / "none", keep=()) == 0
    touch(tmp_path / "gone")

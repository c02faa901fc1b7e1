"""Three promoters race for one champion, against a real server, and are killed in between. 100 races: the tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config import LogSettings
from tools import promoter_races


@pytest.mark.mlflow
@pytest.mark.slow
def test_after_each_race_there_is_one_champion_and_the_ledger_is_whole(mlflow_server: str, tmp_path: Path) -> None:
    log = LogSettings(path=str(tmp_path / "log.sqlite"))
    found = promoter_races.run(mlflow_server, log, tmp_path, races=9, seed=3, name=f"races-{tmp_path.name}")
    assert found.troubles == []
    died = {what: count for what, count in found.counts.items() if what.startswith("killed")}
    assert len(died) >= 2, "they die at different places"
    assert found.counts["won"] + died.get("killed before the alias", 0) + died.get("killed after the alias", 0) >= 9
    assert set(found.counts) <= {"won", "refused", *(f"killed {place}" for place in promoter_races.PLACES)}
    assert sum(found.counts.values()) == 27
